"""Some clips made again from their videos: same pixels, same tokens, as good as recorded."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool

from pipeline.dataset import TokenDataset
from pipeline.encoding import EncodeConfig, EncodeStage
from pipeline.errors import PipelineError, RecordError, SourceError, TransientError
from pipeline.reconstruction import decode_stage_of
from pipeline.records import Clip, Quarantine, UnitEnd, WorkUnit
from pipeline.sources import find_video
from pipeline.storage import StorageConfig
from pipeline.verification.clip_keys import id_bits
from pipeline.verification.findings import CheckResult
from pipeline.verification.remedies import make_again
from sweettok import Tokens

_SPARE_ROWS = 4
_COLUMNS = (
    "clip_id", "video_id", "video_uri", "video_fingerprint", "clip_index",
    "spatial_tokens", "temporal_tokens", "psnr_db",
)  # fmt: skip
_IF_MANY = (
    "; if many clips are named here, look first for what was different (another decoder version, "
    "another processor)"
)


@dataclass(frozen=True)
class SampleSettings:
    """Which clips are made again, and what may differ.

    Attributes:
        num_clips: How many.
        seed: Which ones, together with their ids.
        storage: How to reach the videos.
        roots: Where they may lie; None for anywhere.
        psnr_tolerance_db: By how much the PSNR may be below the recorded one, in dB.
        max_id_mismatch: Share of a clip's ids that may differ, in [0, 1].
    """

    num_clips: int
    seed: int
    storage: StorageConfig
    roots: tuple[str, ...] | None
    psnr_tolerance_db: float
    max_id_mismatch: float


class SampleDraw:
    """Draws rows by a hash of their ids, so that the order of the files does not matter.

    Rows with a recorded PSNR come first, up to half of the sample. Some rows are drawn to spare:
    their videos may be gone. Rows may be offered by several threads.
    """

    def __init__(self, num_clips: int, seed: int) -> None:
        self._size = _SPARE_ROWS * num_clips
        self._half = -(-num_clips // 2)
        self._salt = np.random.default_rng(seed).integers(0, 2**64, dtype=np.uint64)
        self._measured: list[tuple[int, dict[str, Any]]] = []
        self._any: list[tuple[int, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def offer(self, rows: pa.RecordBatch, sound: Bool[np.ndarray, " num_rows"]) -> None:
        """Takes the sound rows of a batch into account."""
        if not self._size:
            return
        rows = rows.filter(pa.array(sound))
        ranks = _mixed(id_bits(rows.column("clip_id"))[:, 0].astype(np.uint64) ^ self._salt)
        everything = np.ones(rows.num_rows, bool)
        measured = ~everything
        if "psnr_db" in rows.schema.names:
            measured = rows.column("psnr_db").is_valid().to_numpy(zero_copy_only=False)
        with self._lock:
            self._measured = self._merged(self._measured, rows, ranks, measured)
            self._any = self._merged(self._any, rows, ranks, everything)

    def rows(self) -> list[dict[str, Any]]:
        """The drawn rows in the order in which they are to be tried, each once."""
        first, more = self._measured[: self._half], self._measured[self._half :]
        drawn = [row for _, row in [*first, *self._any, *more]]
        return list({row["clip_id"]: row for row in drawn}.values())

    def _merged(
        self,
        kept: list[tuple[int, dict[str, Any]]],
        rows: pa.RecordBatch,
        ranks: np.ndarray,
        wanted: Bool[np.ndarray, " num_rows"],
    ) -> list[tuple[int, dict[str, Any]]]:
        if len(kept) == self._size:
            wanted = wanted & (ranks < kept[-1][0])
        places = np.flatnonzero(wanted)
        places = places[np.argsort(ranks[places], kind="stable")][: self._size]
        if not len(places):
            return kept
        names = [name for name in _COLUMNS if name in rows.schema.names]
        taken = pa.Table.from_batches([rows]).select(names).take(pa.array(places)).to_pylist()
        arrived = [(int(ranks[place]), row) for place, row in zip(places, taken, strict=True)]
        return sorted([*kept, *arrived], key=lambda item: item[0])[: self._size]


class SampleCheck:
    """Makes drawn clips again: decode, encode, compare.

    Args:
        dataset: The dataset, whose lineage says how the tokens were made.
        tokenizer: Local directory of the dataset's tokenizer.
        settings: What may differ.
    """

    def __init__(self, dataset: TokenDataset, tokenizer: Path, settings: SampleSettings) -> None:
        lineage = dataset.lineage
        self._dataset_uri = dataset.uri
        self.result = CheckResult("samples", "clip")
        self._settings = settings
        self._decode = decode_stage_of(lineage, settings.storage)
        config = EncodeConfig.from_arithmetic(lineage.precision, psnr_fraction=0.0)
        self._encode = EncodeStage(tokenizer, config, use_gpu=torch.cuda.is_available())

    def check(self, rows: Sequence[dict[str, Any]]) -> CheckResult:
        """Checks rows in their order until enough could be checked."""
        if not rows:
            return self.result
        try:
            self._encode.setup()
        except PipelineError as error:
            self.result.notes.append(f"no clip was made again: {error}")
            return self.result
        self._decode.setup()
        try:
            for unit, wanted in self._reachable(rows):
                self._check_video(unit, wanted)
        finally:
            self._decode.close()
            self._encode.close()
        return self.result

    def _reachable(
        self, rows: Sequence[dict[str, Any]]
    ) -> list[tuple[WorkUnit, list[dict[str, Any]]]]:
        """The first rows whose videos are there and unchanged, by video."""
        units: dict[str, WorkUnit | str] = {}
        chosen: dict[str, list[dict[str, Any]]] = {}
        num_left = self._settings.num_clips
        for row in rows:
            if not num_left:
                break
            uri = row["video_uri"]
            if uri not in units:
                units[uri] = self._find(uri, row["video_fingerprint"])
            if isinstance(units[uri], WorkUnit):
                chosen.setdefault(uri, []).append(row)
                num_left -= 1
        self._note([(uri, why) for uri, why in units.items() if isinstance(why, str)])
        return [(unit, chosen[uri]) for uri, unit in units.items() if isinstance(unit, WorkUnit)]

    def _find(self, uri: str, fingerprint: str) -> WorkUnit | str:
        """The unit of a stored video, or why there is none."""
        try:
            return find_video(uri, fingerprint, self._settings.storage, roots=self._settings.roots)
        except (SourceError, RecordError, TransientError) as error:
            return str(error)

    def _check_video(self, unit: WorkUnit, rows: list[dict[str, Any]]) -> None:
        self.result.num_checked += len(rows)
        clips, quarantine = self._clips(unit, {row["clip_id"] for row in rows})
        for row in rows:
            if row["clip_id"] in clips:
                self._compare(row, clips[row["clip_id"]])
            else:
                why = f": {quarantine.reason}, {quarantine.message}" if quarantine else ""
                self._report(row, f"its video is unchanged and no longer gives this clip{why}")

    def _clips(self, unit: WorkUnit, wanted: set[str]) -> tuple[dict[str, Clip], Quarantine | None]:
        """The wanted clips of a video; what comes after the last of them is not decoded."""
        clips: dict[str, Clip] = {}
        for record in self._decode.process(unit):
            if isinstance(record, UnitEnd):
                return clips, record.quarantine
            if record.clip_id in wanted:
                pixels = np.array(record.frames)  # the record's own memory is used again
                clips[record.clip_id] = dataclasses.replace(record, frames=pixels)
                if len(clips) == len(wanted):
                    break
        return clips, None

    def _compare(self, row: Mapping[str, Any], clip: Clip) -> None:
        (made,) = self._encode.process([clip])
        ids = np.array([*row["spatial_tokens"], *row["temporal_tokens"]])
        num_different = int(
            np.count_nonzero(ids != np.concatenate([made.spatial_tokens, made.temporal_tokens]))
        )
        if num_different > self._settings.max_id_mismatch * len(ids):
            self._report(
                row, f"{num_different} of its {len(ids)} ids differ from those of its pixels"
            )
            return
        recorded = row.get("psnr_db")
        if recorded is None:
            return
        stored = Tokens(
            torch.tensor([row["spatial_tokens"]], dtype=torch.int64),
            torch.tensor([row["temporal_tokens"]], dtype=torch.int64),
        )
        found = self._encode.psnr_db(stored, clip)
        if found < recorded - self._settings.psnr_tolerance_db:
            self._report(row, f"decodes to {found:.2f} dB, recorded are {recorded:.2f} dB")

    def _report(self, row: Mapping[str, Any], what: str) -> None:
        where = f"clip {row['clip_id']} ({row['video_uri']}, clip {row['clip_index']})"
        remedy = make_again(self._dataset_uri, [row["video_id"]]) + _IF_MANY
        self.result.add(where, what, remedy)

    def _note(self, unreachable: list[tuple[str, str]]) -> None:
        for uri, why in unreachable[:3]:
            self.result.notes.append(f"{uri} could not be made again: {why}")
        if len(unreachable) > 3:
            self.result.notes.append(f"… and {len(unreachable) - 3} more videos")


def _mixed(values: np.ndarray) -> np.ndarray:
    """Spreads 64-bit numbers evenly, each input to one output (the finalizer of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
