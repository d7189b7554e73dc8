"""How faithful a token dataset is: stored tokens decoded beside the pixels they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.dataset import TokenDataset
from pipeline.encoding import PIXEL_RANGE
from pipeline.reconstruction import StoredClip, decode_clips, original_frames, stored_clips
from pipeline.storage import StorageConfig
from sweettok import SweetTok
from sweettok.metrics import psnr_db


@dataclass(frozen=True, eq=False)
class ComparedClip:
    """A stored clip, its original and its reconstruction.

    Attributes:
        clip: The row.
        original, reconstruction: uint8 arrays [t, h, w, 3] in [0, 255].
        psnr_db: Peak signal-to-noise ratio over the whole clip.
    """

    clip: StoredClip
    original: UInt8[np.ndarray, "t h w 3"]
    reconstruction: UInt8[np.ndarray, "t h w 3"]
    psnr_db: float


def compare_clips(
    dataset: TokenDataset, model: SweetTok, *, max_clips: int, storage: StorageConfig
) -> list[ComparedClip]:
    """Compares up to `max_clips` stored clips with their originals, in the order of the files.

    Clips whose video is gone or has changed are left out.
    """
    clips = list(stored_clips(dataset, max_clips=max_clips))
    originals = original_frames(dataset, clips, storage)
    return list(_compared(model, clips, originals))


def mean_psnr_db(compared: list[ComparedClip]) -> float:
    """Mean of the clips' PSNR in dB; not a number if there are none."""
    return float(np.mean([item.psnr_db for item in compared])) if compared else float("nan")


def video_name(uri: str) -> str:
    """The file name at the end of a URI, for people."""
    return unquote(PurePosixPath(urlsplit(uri).path).name) or uri


def by_video(compared: Sequence[ComparedClip]) -> list[tuple[str, list[ComparedClip]]]:
    """The clips of each video, both in order."""
    ordered = sorted(compared, key=lambda item: (item.clip.video_uri, item.clip.clip_index))
    return [(uri, list(items)) for uri, items in groupby(ordered, lambda item: item.clip.video_uri)]


def spread(compared: Sequence[ComparedClip], num_clips: int) -> list[ComparedClip]:
    """Clips of as many videos as possible, from evenly spaced places of each."""
    videos = by_video(compared)
    each = -(-num_clips // max(1, len(videos)))
    chosen = []
    for _, items in videos:
        places = np.linspace(0, len(items) - 1, min(each, len(items)) + 1)[:-1]
        chosen.append([items[int(place)] for place in places])
    in_turn = [item for items in zip_longest(*chosen) for item in items if item is not None]
    kept = {id(item) for item in in_turn[:num_clips]}
    return [item for items in chosen for item in items if id(item) in kept]


def _compared(
    model: SweetTok,
    clips: list[StoredClip],
    originals: dict[str, UInt8[np.ndarray, "t h w 3"]],
) -> Iterator[ComparedClip]:
    known = [clip for clip in clips if clip.clip_id in originals]
    for clip, reconstruction in decode_clips(model, known):
        original = originals[clip.clip_id]
        pair = (torch.from_numpy(original)[None], torch.from_numpy(reconstruction)[None])
        yield ComparedClip(clip, original, reconstruction, psnr_db(*pair, PIXEL_RANGE).item())
