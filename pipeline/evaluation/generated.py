"""Generated clips, from a folder of videos or a token dataset, as an evaluation reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.clips import ClipConfig
from pipeline.dataset import TokenDataset
from pipeline.decoding.interface import DecodeConfig
from pipeline.errors import DatasetError
from pipeline.evaluation.clip_reader import ClipReader, ReadVideo
from pipeline.evaluation.config import GeneratedConfig
from pipeline.evaluation.protocol import ProtocolConfig, SplitConfig, chosen_videos
from pipeline.reconstruction import StoredClip, decode_clips, load_tokenizer_of, stored_clips
from pipeline.records import stable_id
from pipeline.sources import SourceConfig
from pipeline.training.prefetching import prefetched
from sweettok import SweetTok

_READ_AHEAD = 2


@dataclass(frozen=True, eq=False)
class ClipSource:
    """Videos in order, and what reads them.

    Attributes:
        videos: Small records.
        read: The clips of some of them, one record at a time.
        identity: Hash of which videos they are, in which state.
    """

    videos: list[Any]
    read: Callable[[Iterable[Any]], Iterator[ReadVideo]]
    identity: str


@contextmanager
def video_clips(
    source: SourceConfig, protocol: ProtocolConfig, decode: DecodeConfig
) -> Iterator[ClipSource]:
    """The clips of a `SourceConfig` as the protocol wants them, decoded a little ahead.

    Raises:
        SourceError: It cannot be listed, or lacks a video of the split.
    """
    units = chosen_videos(source, protocol.split, protocol.seed)
    identity = stable_id(
        "videos",
        protocol.model_copy(update={"name": "", "max_clips": None}).to_yaml(),
        *decode.decoders,
        *(f"{unit.uri} {unit.fingerprint}" for unit in units),
    )
    with ClipReader(protocol, decode, source.storage) as reader:
        yield ClipSource(
            units, lambda chosen: prefetched(map(reader.read, chosen), _READ_AHEAD), identity
        )


@contextmanager
def generated_clips(
    config: GeneratedConfig, protocol: ProtocolConfig, decode: DecodeConfig, device: torch.device
) -> Iterator[ClipSource]:
    """The clips of a generated set; tokens are decoded on `device`.

    Raises:
        SourceError, DatasetError: It is not there, or its clips have another size.
    """
    if config.videos is not None:
        plain = protocol.model_copy(
            update={"split": SplitConfig(), "clips": ClipConfig(), "clips_per_video": None}
        )
        with video_clips(config.videos, plain, decode) as source:
            yield source
        return
    assert config.dataset is not None
    dataset = TokenDataset.open(config.dataset.uri, storage=config.dataset.storage)
    model = load_tokenizer_of(dataset).to(device)
    _check_size(model, protocol, dataset.uri)
    clips = list(stored_clips(dataset, max_clips=config.max_clips or protocol.max_clips))
    identity = stable_id("dataset", dataset.uri, *(clip.clip_id for clip in clips))

    def read(chosen: Iterable[StoredClip]) -> Iterator[ReadVideo]:
        with torch.inference_mode():
            for clip, frames in decode_clips(model, chosen):
                yield ReadVideo(clip.video_uri, [frames], None)

    yield ClipSource(clips, read, identity)


def _check_size(model: SweetTok, protocol: ProtocolConfig, uri: str) -> None:
    found, wanted = model.config.geometry, protocol.geometry
    sizes = [(size.num_frames, size.height_px, size.width_px) for size in (found, wanted)]
    if sizes[0] != sizes[1]:
        raise DatasetError(
            f"{uri}: its clips are {'×'.join(map(str, sizes[0]))}, the protocol's "
            f"{'×'.join(map(str, sizes[1]))}; set protocol.num_frames, height_px and width_px"
        )
