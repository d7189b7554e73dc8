"""What needs work: the listing minus what the dataset holds."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning import PlanCounts, plan_units
from pipeline.records import ListedVideo
from tests.token_samples import listed_video

NAMES = st.sampled_from("abcdefgh")
VERSIONS = st.sampled_from("12")


def finished_table(rows: Sequence[tuple[ListedVideo, str]]) -> pa.Table:
    return pa.table(
        {
            "video_id": pa.array([video.video_id for video, _ in rows], pa.string()),
            "video_fingerprint": pa.array([video.fingerprint for video, _ in rows], pa.string()),
            "state": pa.array([state for _, state in rows], pa.string()),
        }
    )


def test_only_new_and_changed_videos_are_work() -> None:
    finished = finished_table(
        [
            (listed_video("same"), "tokens"),
            (listed_video("changed", "1"), "tokens"),
            (listed_video("broken"), "quarantined"),
            (listed_video("repaired", "1"), "quarantined"),
            (listed_video("gone"), "tokens"),
        ]
    )
    listing = [
        listed_video("new", caption="a dog"),
        listed_video("same"),
        listed_video("changed", "2"),
        listed_video("broken"),
        listed_video("repaired", "2"),
        listed_video("new"),
    ]
    units, counts = plan_units(listing, finished)
    assert [unit.uri.rpartition("/")[2] for unit in units] == ["new", "changed", "repaired"]
    assert units[0].attributes == {"caption": "a dog"}
    assert counts == PlanCounts(6, 1, 1, 2, 1, 1)


def test_quarantined_videos_come_back_on_request() -> None:
    finished = finished_table([(listed_video("broken"), "quarantined")])
    units, counts = plan_units([listed_video("broken")], finished, retry_quarantined=True)
    assert [unit.video_id for unit in units] == [listed_video("broken").video_id]
    assert counts.num_quarantined == 1


@given(
    listing=st.lists(st.tuples(NAMES, VERSIONS)),
    known=st.dictionaries(NAMES, st.tuples(VERSIONS, st.sampled_from(["tokens", "quarantined"]))),
)
def test_every_listed_video_is_counted_once_and_a_finished_plan_is_empty(
    listing: list[tuple[str, str]], known: dict[str, tuple[str, str]]
) -> None:
    videos = [listed_video(name, version) for name, version in listing]
    states = [(listed_video(name, version), state) for name, (version, state) in known.items()]
    units, counts = plan_units(iter(videos), finished_table(states))
    total = counts.num_new + counts.num_changed + counts.num_tokenized + counts.num_quarantined
    assert total + counts.num_repeated == counts.num_listed == len(videos)
    assert (
        len(units) == len({unit.video_id for unit in units}) == counts.num_new + counts.num_changed
    )

    first_listed = {video.video_id: video for video in reversed(videos)}.values()
    again, _ = plan_units(
        first_listed, finished_table([(video, "tokens") for video in first_listed])
    )
    assert again == []
