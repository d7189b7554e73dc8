"""Measures whether the borders of tiles show: real videos, longer and larger than a clip."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.clips import ClipConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import SourceError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, WorkUnit
from pipeline.sources import SourceConfig, list_videos
from sweettok import ClipGeometry, SweetTok, pixels_to_video
from sweettok.errors import ConfigError
from sweettok.metrics import psnr_db
from sweettok.seams import SeamReport, measure_seams
from sweettok.strict_config import StrictConfig
from sweettok.tiling import TilePlan, decode_tiles, encode_tiles

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**28  # of a piece, all frames together: 3 GiB for each copy in float32


class TiledSize(StrictConfig):
    """A piece of video that is larger than one clip of the tokenizer.

    Attributes:
        num_frames: Frames of the piece, 1 + k·tube_frames; the first of each video.
        height_px, width_px: Its size; videos are resized and cropped in the middle.
        overlap_frames: Frames that tiles share at least.
        overlap_px: Rows and columns that tiles share at least.
    """

    num_frames: int = pydantic.Field(ge=1)
    height_px: int = pydantic.Field(ge=1)
    width_px: int = pydantic.Field(ge=1)
    overlap_frames: int | None = pydantic.Field(default=None, ge=0)
    overlap_px: int | None = pydantic.Field(default=None, ge=0)


class SeamConfig(StrictConfig):
    """One run of `jobs/measure_seams.py`.

    Attributes:
        tokenizer: Directory of a saved tokenizer.
        source: Which videos.
        sizes: What is tiled of each of them.
        preprocess, decode: As for tokenizing.
    """

    tokenizer: str
    source: SourceConfig
    sizes: tuple[TiledSize, ...] = pydantic.Field(min_length=1)
    preprocess: PreprocessConfig = PreprocessConfig()
    decode: DecodeConfig = DecodeConfig()


@dataclass(frozen=True)
class TiledVideo:
    """What tiling one video gave.

    Attributes:
        name: File name of the video.
        plan: Where its tiles lie.
        psnr_db: PSNR of the whole piece.
        bits_per_frame: Bits of its tokens, those of overlaps counted twice, per frame.
        seams: Borders against interior, one report per axis that has borders.
    """

    name: str
    plan: TilePlan
    psnr_db: float
    bits_per_frame: float
    seams: list[SeamReport]


def measure_tiled_videos(config: SeamConfig) -> list[TiledVideo]:
    """Tiles the beginning of every video of the source in every size.

    Raises:
        ConfigError: A size cannot be tiled.
        SourceError: No video matches, or one is too short or cannot be decoded.
        ShapeError: The tokenizer cannot take such tiles.
    """
    model = SweetTok.from_pretrained(config.tokenizer).eval()
    for number, size in enumerate(config.sizes):
        _check_size(f"sizes[{number}]", size, model)
    units = [WorkUnit.from_listed(video) for video in list_videos(config.source)]
    measured = []
    for size in config.sizes:
        for unit in units:
            measured.append(_measure(model, _first_frames(unit, config, size, model), unit, size))
            logger.info("%s: %.2f dB", measured[-1].name, measured[-1].psnr_db)
    return measured


def seam_table(videos: list[TiledVideo]) -> str:
    """A Markdown table with one row per video and axis."""
    lines = [
        "| video | tiled | bits/frame | PSNR, dB | along | borders / elsewhere, dB | jump ratio |",
        "|---|---|---:|---:|---|---:|---:|",
    ]
    for video in videos:
        plan = video.plan
        tiled = f"{plan.num_frames}×{plan.height_px}×{plan.width_px} in {plan.num_tiles}"
        lines += [
            f"| {video.name} | {tiled} | {video.bits_per_frame:.0f} | {video.psnr_db:.2f} "
            f"| {seam.axis} | {seam.border_psnr_db:.2f} / {seam.interior_psnr_db:.2f} "
            f"| {seam.jump_ratio:.2f} |"
            for seam in video.seams
        ]
    return "\n".join(lines)


def _check_size(where: str, size: TiledSize, model: SweetTok) -> None:
    """Refuses what cannot be tiled, before any video is read.

    Raises:
        ConfigError: The piece has another number of frames than tubes give, fits into one tile, or
            would not fit into memory.
    """
    tile = model.config.geometry
    if (size.num_frames - 1) % tile.tube_frames:
        below = size.num_frames - (size.num_frames - 1) % tile.tube_frames
        raise ConfigError(
            f"{where}.num_frames is {size.num_frames}, must be 1 + a multiple of "
            f"{tile.tube_frames}; use {below} or {below + tile.tube_frames}"
        )
    num_pixels = size.num_frames * size.height_px * size.width_px
    if num_pixels > MAX_PIXELS:
        raise ConfigError(
            f"{where}: {size.num_frames}×{size.height_px}×{size.width_px} are {num_pixels} pixels, "
            f"at most {MAX_PIXELS} are held in memory; take a smaller piece"
        )
    is_larger = (
        size.num_frames > tile.num_frames
        or size.height_px > tile.height_px
        or size.width_px > tile.width_px
    )
    if not is_larger:
        raise ConfigError(
            f"{where}: {size.num_frames}×{size.height_px}×{size.width_px} fits into one tile of "
            f"{tile.num_frames}×{tile.height_px}×{tile.width_px}, so nothing is tiled; take more"
        )


@torch.no_grad()
def _measure(
    model: SweetTok, video: Float[Tensor, "c t h w"], unit: WorkUnit, size: TiledSize
) -> TiledVideo:
    plan = TilePlan.of_video(
        model,
        num_frames=size.num_frames,
        height_px=size.height_px,
        width_px=size.width_px,
        overlap_frames=size.overlap_frames,
        overlap_px=size.overlap_px,
    )
    tokens = encode_tiles(model, video, plan)
    decoded = torch.cat(list(decode_tiles(model, tokens, plan)), dim=1).clamp(-1, 1)
    return TiledVideo(
        name=Path(unit.uri).name,
        plan=plan,
        psnr_db=psnr_db(video.unsqueeze(0), decoded.unsqueeze(0), 2.0).item(),
        bits_per_frame=plan.bits(model) / size.num_frames,
        seams=measure_seams(video, decoded, plan),
    )


def _first_frames(
    unit: WorkUnit, config: SeamConfig, size: TiledSize, model: SweetTok
) -> Float[Tensor, "c t h w"]:
    """The first `num_frames` frames of one video, in [-1, 1]."""
    geometry = ClipGeometry(
        num_frames=size.num_frames,
        height_px=size.height_px,
        width_px=size.width_px,
        patch_px=1,
        tube_frames=model.config.geometry.tube_frames,
    )
    clips = ClipConfig(max_clips_per_video=1)
    stage = DecodeStage(config.decode, clips, config.preprocess, geometry, config.source.storage)
    stage.setup()
    try:
        records = list(stage.process(unit))
    finally:
        stage.close()
    if not isinstance(records[0], Clip):
        assert records[0].quarantine is not None or records[0].num_clips == 0
        why = records[0].quarantine.message if records[0].quarantine else "it is too short"
        raise SourceError(
            f"{unit.uri}: no piece of {size.num_frames} frames: {why}; lower sizes.num_frames or "
            "take another video"
        )
    return pixels_to_video(torch.from_numpy(records[0].frames).unsqueeze(0))[0]
