"""Small, real records for the tests of the dataset: same arguments, same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from pipeline.dataset import CommitConfig, CommitSummary, Committer, Lineage, TokenDataset
from pipeline.errors import QuarantineReason
from pipeline.records import (
    ClipWindow,
    ListedVideo,
    Quarantine,
    TokenizedClip,
    UnitEnd,
    VideoInfo,
    WorkUnit,
)
from sweettok.geometry import ClipGeometry

Record = TokenizedClip | UnitEnd
NUM_SPATIAL, NUM_TEMPORAL, NUM_WORDS = 6, 10, 500
SOURCE = VideoInfo(640, 360, 29.97, 300, 10.01, "h264", "pyav")


def sample_lineage(**changes: object) -> Lineage:
    """The lineage that all samples fit, with `changes` to its fields."""
    values: dict[str, object] = {
        "weights_hash": "w" * 64,
        "codebook_hash": "c" * 64,
        "geometry": ClipGeometry(num_frames=5, height_px=64, width_px=96),
        "num_spatial_tokens": NUM_SPATIAL,
        "num_temporal_tokens": NUM_TEMPORAL,
        "num_spatial_words": NUM_WORDS,
        "num_temporal_words": NUM_WORDS,
        "preprocessing": {"resize": "crop", "range": [-1, 1]},
        "clip_policy": {"fps": 8.0},
        "decoder": "pyav,decord",
        "precision": "fp32",
        "versions": {"sweettok": "0.1.0"},
    }
    return Lineage(**(values | changes))  # type: ignore[arg-type]


def listed_video(name: str, version: str = "1", **attributes: str) -> ListedVideo:
    """An input named `name` in state `version`."""
    return ListedVideo(f"file:///videos/{name}", 1000, version, attributes)


def work_unit(name: str, version: str = "1", **attributes: str) -> WorkUnit:
    """The unit of `listed_video(name, version)`."""
    return WorkUnit.from_listed(listed_video(name, version, **attributes))


def tokenized_clip(unit: WorkUnit, index: int) -> TokenizedClip:
    """Clip `index` of `unit`; its tokens depend on nothing else."""
    window = ClipWindow(index, tuple(range(5 * index, 5 * index + 5)), index * 0.5, index * 0.5 + 1)
    random = np.random.default_rng(
        [int(unit.video_id[:8], 16), int(unit.fingerprint[:8], 16), index]
    )
    spatial = random.integers(0, NUM_WORDS, NUM_SPATIAL).astype(np.int16)
    temporal = random.integers(0, NUM_WORDS, NUM_TEMPORAL).astype(np.int16)
    return TokenizedClip(unit, window, SOURCE, spatial, temporal)


def unit_records(unit: WorkUnit, num_clips: int) -> list[TokenizedClip | UnitEnd]:
    """Everything that arrives for a unit with `num_clips` clips, in order."""
    return [*(tokenized_clip(unit, i) for i in range(num_clips)), UnitEnd(unit, num_clips)]


def quarantined(unit: WorkUnit, message: str = "moov atom not found") -> UnitEnd:
    """The end of a unit that gave no clip."""
    reason = QuarantineReason.NOT_A_VIDEO
    return UnitEnd(unit, 0, Quarantine(reason, "decode", "InvalidDataError", message, 2))


def commit_all(
    root: Path, records: Iterable[Record], config: CommitConfig | None = None, run_id: str = "run"
) -> CommitSummary:
    """Opens or creates the dataset at `root` and commits `records` as one run."""
    committer = Committer(TokenDataset.create_or_open(root, sample_lineage()), run_id, config)
    for record in records:
        committer.add(record)
    return committer.close()


def table_of(root: Path) -> list[dict[str, object]]:
    """All clip rows but for the run that wrote them, in clip order."""
    rows = TokenDataset.open(root).rows().read_all().drop_columns(["run_id"])
    return rows.sort_by([("video_uri", "ascending"), ("clip_index", "ascending")]).to_pylist()


def states_of(root: Path) -> dict[str, str]:
    """The state of every finished video; fails if one is listed twice."""
    finished = TokenDataset.open(root).finished_units().to_table()
    states = dict(zip(finished["video_id"].to_pylist(), finished["state"].to_pylist(), strict=True))
    assert len(states) == finished.num_rows
    return states


def corpus(num_videos: int, version: str = "1") -> dict[str, list[Record]]:
    """Records by video: every fourth video is quarantined, the others have 1 to 3 clips."""
    units = {f"{index:03}": work_unit(f"{index:03}", version) for index in range(num_videos)}
    return {
        name: [quarantined(unit)] if index % 4 == 3 else list(unit_records(unit, 1 + index % 3))
        for index, (name, unit) in enumerate(units.items())
    }


def flat(records: Iterable[Sequence[Record]]) -> list[Record]:
    """The records of all units, one after the other."""
    return [record for unit in records for record in unit]
