"""From a token dataset back to video: stored ids decoded, their original pixels found again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import UInt8

from pipeline.clips import ClipConfig
from pipeline.dataset import Lineage, TokenDataset
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import DatasetError, SourceError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, WorkUnit
from pipeline.sources import find_video
from pipeline.storage import StorageConfig
from sweettok import SweetTok, Tokens, video_to_pixels

logger = logging.getLogger(__name__)

_COLUMNS = (
    "clip_id",
    "video_id",
    "video_uri",
    "video_fingerprint",
    "clip_index",
    "start_s",
    "end_s",
    "num_padded_frames",
    "num_frames",
    "source_fps",
    "spatial_tokens",
    "temporal_tokens",
)


@dataclass(frozen=True, eq=False)
class StoredClip:
    """One row of a token dataset, its tokens as a batch of one.

    Attributes:
        clip_id, video_id, video_uri, video_fingerprint, clip_index: As stored.
        start_s, end_s: Which part of the video it is, in seconds.
        num_padded_frames: Frames at its end that repeat the last real one.
        fps: Rate at which its frames were sampled, in frames per second.
        tokens: Ids [1, s] and [1, m].
    """

    clip_id: str
    video_id: str
    video_uri: str
    video_fingerprint: str
    clip_index: int
    start_s: float
    end_s: float
    num_padded_frames: int
    fps: float
    tokens: Tokens


def stored_clips(
    dataset: TokenDataset,
    *,
    max_clips: int | None = None,
    video_uri: str | None = None,
    clip_ids: Sequence[str] | None = None,
) -> Iterator[StoredClip]:
    """The clips of `dataset` in the order of its files, at most `max_clips`.

    With `video_uri` those of one video, with `clip_ids` those with these ids.
    """
    condition = None if video_uri is None else pc.field("video_uri") == video_uri
    if clip_ids is not None:
        chosen = pc.field("clip_id").isin(list(clip_ids))
        condition = chosen if condition is None else condition & chosen
    left = max_clips
    for batch in dataset.rows(columns=_COLUMNS, filter=condition):
        rows = batch if left is None else batch.slice(0, left)
        yield from map(_stored_clip, rows.to_pylist())
        if left is not None:
            left -= rows.num_rows
            if left <= 0:
                return


def decode_clips(
    model: SweetTok, clips: Iterable[StoredClip], *, batch_size: int = 8
) -> Iterator[tuple[StoredClip, UInt8[np.ndarray, "t h w 3"]]]:
    """Decodes stored ids to pixels in [0, 255], batch by batch, in their order.

    Raises:
        DatasetError: A row's ids do not fit the tokenizer.
    """
    batch: list[StoredClip] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == batch_size:
            yield from _decode_batch(model, batch)
            batch = []
    if batch:
        yield from _decode_batch(model, batch)


def original_frames(
    dataset: TokenDataset, clips: Sequence[StoredClip], storage: StorageConfig
) -> dict[str, UInt8[np.ndarray, "t h w 3"]]:
    """Pixels that the tokens of `clips` were made from, by clip id, cut again from the videos.

    Each video is decoded once. A clip is missing from the result if its video is gone or changed.
    """
    wanted = {clip.clip_id for clip in clips}
    stage = decode_stage_of(dataset.lineage, storage)
    stage.setup()
    try:
        return {
            record.clip_id: np.array(record.frames)
            for unit in _unchanged_units(clips, storage)
            for record in stage.process(unit)
            if isinstance(record, Clip) and record.clip_id in wanted
        }
    finally:
        stage.close()


def decode_stage_of(lineage: Lineage, storage: StorageConfig) -> DecodeStage:
    """The stage that cuts the clips of a dataset from its videos once more, not set up yet."""
    return DecodeStage(
        DecodeConfig.from_mapping({"decoders": lineage.decoder.split(", ")}, origin="lineage"),
        ClipConfig.from_mapping(lineage.clip_policy, origin="lineage"),
        PreprocessConfig.from_mapping(lineage.preprocessing, origin="lineage"),
        lineage.geometry,
        storage,
    )


def token_counts(
    dataset: TokenDataset, num_spatial_words: int, num_temporal_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """How often each word of both codebooks occurs in the whole dataset: two int64 arrays.

    Raises:
        DatasetError: An id lies outside its codebook.
    """
    totals = []
    for column, num_words in (
        ("spatial_tokens", num_spatial_words),
        ("temporal_tokens", num_temporal_words),
    ):
        counts = np.zeros(num_words, dtype=np.int64)
        for batch in dataset.rows(columns=[column]):
            ids = _flat_ids(batch.column(0))
            if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < num_words:
                raise DatasetError(
                    f"{dataset.uri}: {column} holds ids from {ids.min()} to {ids.max()}, the "
                    f"codebook has {num_words} words; the data was altered"
                )
            counts += np.bincount(ids, minlength=num_words)
        totals.append(counts)
    return totals[0], totals[1]


def load_tokenizer_of(dataset: TokenDataset) -> SweetTok:
    """The tokenizer that the dataset carries, in inference mode."""
    return SweetTok.from_pretrained(dataset.tokenizer_files())


def _unchanged_units(clips: Sequence[StoredClip], storage: StorageConfig) -> Iterator[WorkUnit]:
    for clip in {clip.video_id: clip for clip in clips}.values():
        try:
            yield find_video(clip.video_uri, clip.video_fingerprint, storage)
        except SourceError as error:
            logger.warning("no original to compare with: %s", error)


def _decode_batch(
    model: SweetTok, clips: list[StoredClip]
) -> Iterator[tuple[StoredClip, UInt8[np.ndarray, "t h w 3"]]]:
    try:
        device = next(model.parameters()).device
        tokens = Tokens(
            torch.cat([clip.tokens.spatial for clip in clips]).to(device),
            torch.cat([clip.tokens.temporal for clip in clips]).to(device),
        )
        pixels = video_to_pixels(model.decode(tokens)).cpu().numpy()
    except (RuntimeError, ValueError) as error:
        raise DatasetError(
            f"rows {clips[0].clip_id} to {clips[-1].clip_id} cannot be decoded: {error}"
        ) from None
    yield from zip(clips, pixels, strict=True)


def _stored_clip(row: dict[str, Any]) -> StoredClip:
    duration_s = row["end_s"] - row["start_s"]
    num_real_frames = row["num_frames"] - row["num_padded_frames"]
    fps = num_real_frames / duration_s if duration_s > 0 else row["source_fps"]
    return StoredClip(
        clip_id=row["clip_id"],
        video_id=row["video_id"],
        video_uri=row["video_uri"],
        video_fingerprint=row["video_fingerprint"],
        clip_index=row["clip_index"],
        start_s=row["start_s"],
        end_s=row["end_s"],
        num_padded_frames=row["num_padded_frames"],
        fps=fps,
        tokens=Tokens(
            torch.tensor([row["spatial_tokens"]], dtype=torch.int64),
            torch.tensor([row["temporal_tokens"]], dtype=torch.int64),
        ),
    )


def _flat_ids(column: pa.ListArray) -> np.ndarray:
    return column.flatten().to_numpy(zero_copy_only=False)
