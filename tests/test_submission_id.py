"""Submission ids: one per dataset and period, the same wherever it is made, and a plain word."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.exit_codes import ExitCode
from pipeline.submission import Period, submission_id
from tests.job_runs import run_plain

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "later"),
    [(Period.HOUR, timedelta(minutes=59)), (Period.DAY, timedelta(hours=11)),
     (Period.WEEK, timedelta(days=1))],
)  # fmt: skip
def test_an_id_lasts_for_its_period_and_no_longer(period: Period, later: timedelta) -> None:
    first = submission_id("s3://bucket/tokens", NOON, period)
    assert submission_id("s3://bucket/tokens/", NOON + later, period) == first
    elsewhere = (NOON + later).astimezone(timezone(timedelta(hours=14)))
    assert submission_id("s3://bucket/tokens", elsewhere, period) == first
    assert submission_id("s3://bucket/tokens", NOON + 2 * later, period) != first
    assert submission_id("s3://other/tokens", NOON, period) != first
    assert submission_id("s3://bucket/tokens", NOON, period, attempt=2) != first


@given(st.text(), st.datetimes(timezones=st.just(UTC)), st.sampled_from(Period))
def test_an_id_is_a_word_for_shells_and_for_ray(uri: str, moment: datetime, period: Period) -> None:
    name = submission_id(uri.encode("utf-8", "ignore").decode(), moment, period)
    assert re.fullmatch(r"refresh-[A-Za-z0-9_-]+", name)
    assert len(name) < 80


def test_no_credential_is_in_an_id() -> None:
    with_password = submission_id("https://user:hunter22@store/tokens", NOON)
    assert with_password == submission_id("https://user:another1@store/tokens", NOON)


def test_the_command_prints_the_id_of_a_refresh() -> None:
    config = ("--config", "configs/refresh_dataset.yaml", "--set", "dataset.uri=s3://b/tokens")
    begun = datetime.now(UTC)
    printed = run_plain("submission_id", *config, "--every", "hour", "--attempt", "3")
    expected = {
        submission_id("s3://b/tokens", moment, Period.HOUR, attempt=3)
        for moment in (begun, datetime.now(UTC))
    }
    assert printed.stdout.strip() in expected
    wrong = run_plain("submission_id", "--config", config[1], "--set", "dataset.urrl=x")
    assert wrong.returncode == ExitCode.USAGE
    assert "dataset.urrl" in wrong.stderr
