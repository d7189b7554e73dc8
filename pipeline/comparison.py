"""How faithful a token dataset is: stored tokens decoded beside the pixels they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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
