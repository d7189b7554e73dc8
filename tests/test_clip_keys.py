"""Keys of many clips over many scratch files, against the obvious way with dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records import stable_id
from pipeline.verification.clip_keys import KeyPartitions, VideoCheck, VideoSearch, keys_of

# Rows as (video, state of the video, index of the clip): small ranges, so that repeats, gaps and
# videos in two states are all frequent.
ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 20).map(lambda n: n // 20), st.integers(0, 4)),
    max_size=30,
)
ENOUGH_FOR_MANY_FILES = 20_000_000


def batch_of(rows: list[tuple[int, int, int]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {
            "video_id": [stable_id("video", video) for video, _, _ in rows],
            "clip_id": [stable_id("clip", *row) for row in rows],
            "video_fingerprint": [stable_id("state", state) for _, state, _ in rows],
            "clip_index": pa.array([index for _, _, index in rows], pa.int32()),
        }
    )


def expected_findings(rows: list[tuple[int, int, int]]) -> int:
    num_repeated = sum(count - 1 for count in Counter(rows).values())
    videos: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for row in sorted(set(rows)):
        videos[row[0]].append(row)
    num_two_states = sum(len({state for _, state, _ in rows}) > 1 for rows in videos.values())
    num_with_gaps = sum(
        sorted(index for _, _, index in rows) != list(range(len(rows))) for rows in videos.values()
    )
    return num_repeated + num_two_states + num_with_gaps


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 30))
def test_every_repeat_gap_and_second_state_is_counted(
    tmp_path_factory: object, rows: list[tuple[int, int, int]], cut: int
) -> None:
    directory: Path = tmp_path_factory.mktemp("keys")  # type: ignore[attr-defined]
    partitions = KeyPartitions(directory, ENOUGH_FOR_MANY_FILES)
    for number, part in enumerate((rows[:cut], rows[cut:])):
        batch = batch_of(part)
        partitions.add(keys_of(batch, number, 100, pa.array(np.arange(len(part)))))
    check = VideoCheck("/tokens", ["a.parquet", "b.parquet"], are_complete=True)
    search = VideoSearch([stable_id("video", video) for video in (0, 2, 99)])
    for keys in partitions:
        check.check(keys)
        search.add(keys)
    assert len(list(directory.iterdir())) > 10
    assert check.result.num_findings == expected_findings(rows)
    assert check.result.num_checked == len({video for video, _, _ in rows})
    assert search.found == {stable_id("video", video) for video, _, _ in rows if video in (0, 2)}


def test_a_finding_names_both_places(tmp_path: Path) -> None:
    partitions = KeyPartitions(tmp_path, 1)
    batch = batch_of([(0, 0, 0), (0, 0, 1)])
    partitions.add(keys_of(batch, 0, 0, pa.array([0, 1])))
    partitions.add(keys_of(batch, 1, 500, pa.array([1])))
    check = VideoCheck("/tokens", ["a.parquet", "b.parquet"], are_complete=True)
    for keys in partitions:
        check.check(keys)
    (finding,) = check.result.findings
    assert finding.where == "b.parquet row 501"
    assert finding.what == f"clip {stable_id('clip', 0, 0, 1)} is also in a.parquet row 1"
