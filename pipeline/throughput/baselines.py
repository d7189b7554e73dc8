"""What others do, written here for comparison only: a plain script, and textbook Ray pipelines.

All use our encoder, so that only the way around it differs. The script uses our decoder as well and
must give our tokens; the textbooks' reader is Ray's own (decord), so their pixels differ a little.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import ray.data
import ray.exceptions
import torch

from pipeline.clips import ClipConfig
from pipeline.cluster import connect, has_gpu
from pipeline.decoding.decord_decoder import without_padding
from pipeline.encode_config import ClipEncoder
from pipeline.errors import PipelineError
from pipeline.preprocessing import FramePreprocessor
from pipeline.records import Clip, ClipWindow, TokenizedClip, VideoInfo, WorkUnit, stable_id
from pipeline.throughput.tokens import side_tokens, tokens_table, write_tokens
from pipeline.throughput.variants import ClockedEncodeConfig
from pipeline.throughput.whole_pipeline import ObjectStoreWatch
from pipeline.throughput.workplace import Outcome, Workplace, decoded_video
from pipeline.worker_errors import as_pipeline_error

_FRAMES_AT_ONCE = 64
_CORES_TO_SHAPE = 0.5


def serial_script(place: Workplace) -> Outcome:
    """One process: a video is decoded, its clips are encoded one at a time; written at the end.

    So do the published scripts that dump tokens. The model may use all cores.
    """
    decoder, encoder = place.decoder(), place.encoder(batch_size=1)
    began_s = time.monotonic()
    decoder.setup()
    encoder.setup()
    torch.set_num_threads(os.cpu_count() or 1)
    ready_s = time.monotonic()
    tokens: list[TokenizedClip] = []
    for unit in place.units:
        for clip in decoded_video(decoder, unit):
            tokens += encoder.process([clip])
    last_s = time.monotonic()
    write_tokens(place.tokens_path, tokens)
    return Outcome(len(tokens), began_s, ready_s, last_s, time.monotonic())


def textbook_pipeline(place: Workplace) -> Outcome:
    """`read_videos` → `map_batches` → `map_batches` → `write_parquet`, one row per frame.

    Frames are cut and resized as the pipeline's are, in tasks between reader and encoder: whole
    frames go through the object store.

    Raises:
        PipelineError: It cannot do what the config asks for.
    """
    geometry = place.model_config.geometry
    shaper = FramePreprocessor(place.config.preprocess, geometry.height_px, geometry.width_px)

    def shaped(videos: ray.data.Dataset) -> ray.data.Dataset:
        # With a whole core each, reader, this and the encoder would wait for each other for ever.
        return videos.map_batches(
            functools.partial(_shaped, shaper), batch_size=_FRAMES_AT_ONCE, num_cpus=_CORES_TO_SHAPE
        )

    return _textbook(place, shaped, "its frames are decord's")


def squeezed_textbook_pipeline(place: Workplace) -> Outcome:
    """`read_videos` → `map_batches` → `write_parquet`, frames resized by the reader.

    The least that Ray's reader can do: whatever their aspect ratio, frames are squeezed to the
    clip's size while they are decoded. A tokenizer sees other pictures than it was fitted to.

    Raises:
        PipelineError: It cannot do what the config asks for.
    """
    geometry = place.model_config.geometry
    resize = (geometry.height_px, geometry.width_px)
    return _textbook(place, lambda videos: videos, "its frames are squeezed by decord", resize)


def _textbook(
    place: Workplace,
    shaped: Callable[[ray.data.Dataset], ray.data.Dataset],
    note: str,
    resize: tuple[int, int] | None = None,
) -> Outcome:
    """One actor gathers frames into clips, for those of one clip may come in two batches."""
    _check_textbook(place)
    num_frames, config = place.model_config.geometry.num_frames, place.config
    connect(config.cluster)
    num_gpus = config.encode.num_gpus(has_gpu=has_gpu())
    began_s = time.monotonic()
    uris = {unquote(urlsplit(unit.uri).path): unit.uri for unit in place.units}
    videos = ray.data.read_videos(list(uris), include_paths=True, resize=resize)
    tokens = shaped(videos).map_batches(
        TextbookEncoder,
        fn_constructor_args=(
            config.tokenizer_directory,
            place.encode_config(),
            num_gpus > 0,
            num_frames,
            uris,
        ),
        batch_size=num_frames * config.encode.batch_size,
        num_cpus=config.encode.num_cpus_per_actor,
        num_gpus=num_gpus,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    with ObjectStoreWatch() as store:
        try:
            tokens.write_parquet(str(place.directory.absolute() / "parquet"))
        except ray.exceptions.RayError as error:
            raise as_pipeline_error(error) from error
        ended_s = time.monotonic()
    return Outcome(
        len(side_tokens(place.directory)),
        began_s,
        began_s,  # the clock of the encoder knows better
        ended_s,
        ended_s,
        object_store_bytes=store.peak_bytes,
        spilled_bytes=store.spilled_bytes,
        note=f"{note}; a broken video would end it",
    )


def _shaped(shaper: FramePreprocessor, rows: dict[str, Any]) -> dict[str, Any]:
    return rows | {"frame": np.stack([shaper(without_padding(frame)) for frame in rows["frame"]])}


def _check_textbook(place: Workplace) -> None:
    config = place.config
    if config.mode == "synthetic_frames":
        raise PipelineError("read_videos has no made-up frames")
    if config.clips != ClipConfig():
        raise PipelineError("the textbook pipeline cuts clips without overlap, stride or tail only")
    if any(urlsplit(unit.uri).scheme != "file" or unit.member for unit in place.units):
        raise PipelineError("the textbook pipeline reads plain local files only")


@dataclass
class _OpenClip:
    """A clip whose frames are still coming."""

    frames: np.ndarray
    missing: set[int] = field(default_factory=set)


class TextbookEncoder:
    """Gathers rows of frames into clips and encodes them; what never becomes whole is dropped."""

    def __init__(
        self,
        tokenizer: str,
        config: ClockedEncodeConfig,
        use_gpu: bool,
        num_frames: int,
        uris: dict[str, str],
    ) -> None:
        self._num_frames = num_frames
        self._uris = uris
        self._batch_size = config.batch_size
        self._open: dict[tuple[str, int], _OpenClip] = {}
        self._encoder: ClipEncoder = config.stage(tokenizer, use_gpu=use_gpu)
        self._encoder.setup()

    def __call__(self, rows: dict[str, Any]) -> pa.Table:
        """Takes a batch of frames; gives the tokens of the clips that it made whole."""
        whole: list[Clip] = []
        for path, index, frame in zip(
            rows["path"].tolist(), rows["frame_index"].tolist(), rows["frame"], strict=True
        ):
            clip = self._add(path, index, without_padding(frame))
            if clip is not None:
                whole.append(clip)
        tokens: list[TokenizedClip] = []
        for first in range(0, len(whole), self._batch_size):
            tokens += self._encoder.process(whole[first : first + self._batch_size])
        return tokens_table(tokens)

    def _add(self, path: str, index: int, frame: np.ndarray) -> Clip | None:
        number, position = divmod(index, self._num_frames)
        opened = self._open.get((path, number))
        if opened is None:
            frames = np.empty((self._num_frames, *frame.shape), np.uint8)
            opened = _OpenClip(frames, set(range(self._num_frames)))
            self._open[path, number] = opened
        opened.frames[position] = frame
        opened.missing.discard(position)
        if opened.missing:
            return None
        del self._open[path, number]
        return _clip(self._uris[path], number, opened.frames)


def _clip(uri: str, number: int, frames: np.ndarray) -> Clip:
    num_frames, height_px, width_px, _ = frames.shape
    first = number * num_frames
    return Clip(
        WorkUnit(stable_id("video", uri), uri, "", 0),
        ClipWindow(number, tuple(range(first, first + num_frames)), 0.0, 0.0),
        VideoInfo(width_px, height_px, 0.0, None, None, "", "decord"),
        frames,
    )
