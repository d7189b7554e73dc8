"""Sampled sequences as video, as a picture and as a token dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from pipeline.dataset import Committer, Lineage, TokenDataset
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.video_files import write_mp4
from pipeline.records import ClipWindow, TokenizedClip, UnitEnd, VideoInfo, WorkUnit, stable_id
from pipeline.sequences.vocabulary import NO_CLASS, SequenceVocabulary
from sweettok import SweetTok, Tokens, video_to_pixels

_SHEET_COLUMNS = 6
_BATCH_CLIPS = 8


@dataclass(frozen=True)
class Samples:
    """Decoded samples.

    Attributes:
        tokens: Their tokens.
        classes: Their classes' names; None where there is none.
        frames: Pixels of each.
    """

    tokens: Tokens
    classes: tuple[str | None, ...]
    frames: UInt8[np.ndarray, "n t h w 3"]

    def sheet(self) -> Image.Image:
        """A contact sheet, one row per sample."""
        rows = [
            ContactSheetRow(f"sample {number}" + (f" · {name}" if name else ""), frames)
            for number, (name, frames) in enumerate(zip(self.classes, self.frames, strict=True))
        ]
        scale = max(1, round(128 / self.frames.shape[2]))
        return contact_sheet(rows, num_columns=_SHEET_COLUMNS, scale=scale)

    def write_videos(self, directory: Path, fps: float) -> list[Path]:
        """One mp4 per sample."""
        paths = []
        for number, (name, frames) in enumerate(zip(self.classes, self.frames, strict=True)):
            suffix = "" if name is None else f"-{''.join(c if c.isalnum() else '_' for c in name)}"
            paths.append(directory / f"sample-{number:05}{suffix}.mp4")
            write_mp4(paths[-1], frames, fps)
        return paths

    def write_dataset(
        self, uri: str, lineage: Lineage, tokenizer: Path, *, run_id: str, fps: float
    ) -> int:
        """The samples' tokens as a token dataset of their own; returns its version.

        The same samples again are left alone.
        """
        dataset = TokenDataset.create_or_open(uri, lineage)
        dataset.store_tokenizer(tokenizer)
        committer = Committer(dataset, run_id)
        geometry = lineage.geometry
        source = VideoInfo(
            geometry.width_px, geometry.height_px, fps, geometry.num_frames,
            geometry.num_frames / fps, "generated", "generator",
        )  # fmt: skip
        window = ClipWindow(0, tuple(range(geometry.num_frames)), 0.0, geometry.num_frames / fps)
        spatial, temporal = (
            ids.to(torch.int16).numpy() for ids in (self.tokens.spatial, self.tokens.temporal)
        )
        for number, name in enumerate(self.classes):
            name_of_tokens = stable_id(spatial[number].tolist(), temporal[number].tolist())
            sample_uri = f"generated://{run_id}/{number:05}"
            attributes = {} if name is None else {"class": name}
            unit = WorkUnit(
                stable_id("video", sample_uri), sample_uri, name_of_tokens, 0, attributes
            )
            committer.add(TokenizedClip(unit, window, source, spatial[number], temporal[number]))
            committer.add(UnitEnd(unit, 1))
        committer.close()
        dataset.refresh()
        return dataset.version


def decoded(
    sequences: Int[Tensor, "n l"], vocabulary: SequenceVocabulary, tokenizer: SweetTok
) -> Samples:
    """Decodes legal sequences.

    Raises:
        SequenceError: One of them is no clip.
    """
    tokens, class_ids = vocabulary.to_tokens(sequences)
    return Samples(tokens, class_names(class_ids, vocabulary), frames_of(tokens, tokenizer))


@torch.inference_mode()
def frames_of(tokens: Tokens, tokenizer: SweetTok) -> UInt8[np.ndarray, "n t h w 3"]:
    """The pixels of clips, decoded a few at a time."""
    device = next(tokenizer.parameters()).device
    parts = []
    for start in range(0, len(tokens), _BATCH_CLIPS):
        part = tokens[start : start + _BATCH_CLIPS]
        moved = Tokens(part.spatial.to(device), part.temporal.to(device))
        parts.append(video_to_pixels(tokenizer.decode(moved)).cpu().numpy())
    return np.concatenate(parts)


def class_names(
    class_ids: Int[Tensor, " n"] | Sequence[int], vocabulary: SequenceVocabulary
) -> tuple[str | None, ...]:
    """The names of class ids; None for "no class"."""
    ids = [int(class_id) for class_id in class_ids]
    return tuple(
        None if found == NO_CLASS else vocabulary.class_names[found - vocabulary.first_class]
        for found in ids
    )
