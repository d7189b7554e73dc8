"""A token dataset as videos: one mp4 per clip and one contact sheet (`jobs/decode_dataset.py`)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath

import numpy as np
import pydantic

from pipeline.comparison import video_name
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError
from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.video_files import write_mp4
from pipeline.reconstruction import (
    StoredClip,
    decode_clips,
    load_tokenizer_of,
    original_frames,
    stored_clips,
)
from pipeline.storage import StorageConfig, canonical_uri
from pipeline.tokenization import DatasetConfig
from pipeline.whole_files import replaced_directory
from sweettok import SweetTok
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

CONTACT_SHEET_FILE = "contact_sheet.png"
FILES_FILE = "decoded_files.json"
"""Names what a run wrote: the sign by which the next run knows that it may replace it."""


class DecodeDatasetConfig(StrictConfig):
    """One run of `jobs/decode_dataset.py`.

    Attributes:
        dataset: The token dataset; it carries its tokenizer, nothing else is needed.
        version: Version of the dataset to read; null means the latest.
        output: Local directory for the files: one that is not there, is empty, or holds what an
            earlier run wrote and nothing else, which is then replaced as a whole.
        video: Only clips of this video (URI or local path); null means all.
        max_clips: Decode at most so many clips; null means all.
        batch_size: Clips per forward pass.
        sheet_clips: Clips on the contact sheet.
        sheet_originals: Show the original above each reconstruction, where the video still exists.
        source_storage: How to reach the original videos.
    """

    dataset: DatasetConfig
    version: int | None = pydantic.Field(default=None, ge=0)
    output: str
    video: str | None = None
    max_clips: int | None = pydantic.Field(default=None, ge=1)
    batch_size: int = pydantic.Field(default=8, ge=1)
    sheet_clips: int = pydantic.Field(default=6, ge=1)
    sheet_originals: bool = True
    source_storage: StorageConfig = StorageConfig()


@dataclass(frozen=True)
class DecodedFiles:
    """What a run wrote."""

    num_clips: int
    directory: Path
    contact_sheet: Path


def decode_dataset(config: DecodeDatasetConfig) -> DecodedFiles:
    """Writes the videos and the contact sheet into a directory that is whole or not there.

    Raises:
        DatasetError: There is no dataset, it holds no (such) clip, or it was altered; or the
            output is a file, cannot be made, or holds something that this job did not write.
    """
    target = Path(config.output).expanduser().resolve()
    _check_output(target, config.output)
    dataset = TokenDataset.open(config.dataset.uri, config.version, storage=config.dataset.storage)
    model = load_tokenizer_of(dataset)
    uri = None if config.video is None else canonical_uri(config.video)
    with replaced_directory(target) as directory:
        num_clips = _write_files(config, dataset, model, uri, directory)
        names = sorted(file.name for file in directory.iterdir())
        (directory / FILES_FILE).write_text(json.dumps(names, indent=1) + "\n", "utf-8")
        _check_output(target, config.output)
    output = Path(config.output)
    return DecodedFiles(num_clips, output, output / CONTACT_SHEET_FILE)


def _check_output(target: Path, output: str) -> None:
    """Refuses to replace what this job did not write."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        names = {file.name for file in target.iterdir()} if target.exists() else set()
    except OSError as error:
        raise DatasetError(
            f"output {output}: cannot be a directory ({error.strerror}); name another one"
        ) from None
    foreign = names - _written_names(target)
    if foreign:
        raise DatasetError(
            f"output {output}: holds {min(foreign)!r}, which this job did not write; name another "
            "directory, or take out what you want to keep and delete the rest"
        )


def _written_names(directory: Path) -> set[str]:
    try:
        return {FILES_FILE, *json.loads((directory / FILES_FILE).read_text("utf-8"))}
    except (OSError, ValueError, TypeError):  # none, or not as this job writes it
        return set()


def _write_files(
    config: DecodeDatasetConfig,
    dataset: TokenDataset,
    model: SweetTok,
    uri: str | None,
    directory: Path,
) -> int:
    """Fills `directory`; returns how many clips there are."""
    directory.mkdir()
    (directory / "config.yaml").write_text(config.to_yaml(), "utf-8")
    clips = stored_clips(dataset, max_clips=config.max_clips, video_uri=uri)
    sheet = _SheetChoice(config.sheet_clips)
    num_clips = 0
    for clip, frames in decode_clips(model, clips, batch_size=config.batch_size):
        real_frames = frames[: len(frames) - clip.num_padded_frames]
        write_mp4(directory / clip_file_name(clip), real_frames, clip.fps)
        num_clips += 1
        sheet.offer(clip, frames)
        if num_clips % 100 == 0:
            logger.info("%d clips decoded", num_clips)
    if not num_clips:
        raise DatasetError(
            f"{dataset.uri} version {dataset.version}: no clip"
            + (f" of {uri}; look at the column video_uri" if uri else ", nothing to decode")
        )
    rows = _sheet_rows(config, dataset, sheet.chosen())
    contact_sheet(rows, num_columns=6, scale=2).save(directory / CONTACT_SHEET_FILE)
    return num_clips


def clip_file_name(clip: StoredClip) -> str:
    """File name of a clip: readable, and unique because of the id."""
    stem = PurePosixPath(video_name(clip.video_uri)).stem
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in stem)
    return f"{safe[:80]}_{clip.clip_index:05d}_{clip.clip_id[:8]}.mp4"


class _SheetChoice:
    """Chooses clips of as many videos as possible from a stream, in bounded memory."""

    def __init__(self, num_clips: int) -> None:
        self._num_clips = num_clips
        self._by_video: dict[str, list[tuple[StoredClip, np.ndarray]]] = {}

    def offer(self, clip: StoredClip, frames: np.ndarray) -> None:
        """Keeps the clip if it may still be chosen."""
        if clip.video_id not in self._by_video and len(self._by_video) == self._num_clips:
            return
        kept = self._by_video.setdefault(clip.video_id, [])
        if len(kept) < self._num_clips:
            kept.append((clip, frames))

    def chosen(self) -> list[tuple[StoredClip, np.ndarray]]:
        """The first clip of every video, then the second of every video …, at most the number."""
        rounds = zip_longest(*self._by_video.values())
        in_turn = [item for items in rounds for item in items if item is not None]
        return in_turn[: self._num_clips]


def _sheet_rows(
    config: DecodeDatasetConfig,
    dataset: TokenDataset,
    shown: list[tuple[StoredClip, np.ndarray]],
) -> list[ContactSheetRow]:
    originals = {}
    if config.sheet_originals:
        clips = [clip for clip, _ in shown]
        originals = original_frames(dataset, clips, config.source_storage)
    rows = []
    for clip, frames in shown:
        name = f"{video_name(clip.video_uri)} {clip.start_s:.1f} s"
        if clip.clip_id in originals:
            rows.append(ContactSheetRow(f"{name} · original", originals[clip.clip_id]))
        rows.append(ContactSheetRow(f"{name} · decoded", frames))
    return rows
