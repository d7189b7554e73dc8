"""A run in which too many videos give no clip is stopped, with its reasons."""

from __future__ import annotations

import pytest

from pipeline.dataset.assembly import CompletedUnit
from pipeline.errors import PipelineError, QuarantineReason
from pipeline.quarantine_limit import QuarantineLimit
from pipeline.records import Quarantine
from tests.token_samples import tokenized_clip, work_unit


def good(name: str) -> CompletedUnit:
    return CompletedUnit(work_unit(name), (tokenized_clip(work_unit(name), 0),), None)


def bad(name: str, reason: QuarantineReason = QuarantineReason.PERMISSION) -> CompletedUnit:
    quarantine = Quarantine(reason, "read", "PermissionError", f"cannot read {name}")
    return CompletedUnit(work_unit(name), (), quarantine)


def test_the_share_counts_only_once_enough_videos_are_finished() -> None:
    limit = QuarantineLimit(0.5, min_units=4)
    for name in "abc":
        limit.count(bad(name))
        limit.check()
    limit.count(good("d"))
    with pytest.raises(PipelineError, match="3 of the first 4 videos"):
        limit.check()


def test_exactly_the_allowed_share_passes() -> None:
    limit = QuarantineLimit(0.5, min_units=1)
    for completed in (good("a"), bad("b"), good("c"), bad("d")):
        limit.count(completed)
        limit.check()
    assert (limit.num_units, limit.num_quarantined) == (4, 2)


def test_without_a_limit_everything_may_fail() -> None:
    limit = QuarantineLimit(None, min_units=1)
    for name in "abcdef":
        limit.count(bad(name))
    limit.check()


def test_none_allowed_stops_at_the_first() -> None:
    limit = QuarantineLimit(0.0, min_units=1)
    limit.count(good("a"))
    limit.check()
    limit.count(bad("b"))
    with pytest.raises(PipelineError):
        limit.check()


def test_the_error_names_the_top_reasons_an_example_of_each_and_the_remedy() -> None:
    limit = QuarantineLimit(0.1, min_units=1)
    limit.count(bad("x", QuarantineReason.EMPTY))
    for name in ("a", "b", "c"):
        limit.count(bad(name))
    with pytest.raises(PipelineError) as caught:
        limit.check()
    head, first, second, *rest = str(caught.value).splitlines()
    assert "engine.max_quarantine_fraction = 0.1" in head
    assert first == "  3 permission: file:///videos/a: cannot read a"
    assert second == "  1 empty: file:///videos/x: cannot read x"
    assert "retry_quarantined=[permission, empty]" in rest[0]
