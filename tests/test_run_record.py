"""What a run leaves beside its rows, shows in a terminal, and tells Prometheus."""

from __future__ import annotations

import html.parser
import io
import json
import logging
import re
import time
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import TokenDataset
from pipeline.progress import RunProgress
from pipeline.run_page import RunPage
from pipeline.run_timeline import MAX_MOMENTS, Moment, RunTimeline
from pipeline.run_totals import BusyClock, RunTotals
from pipeline.stage_queues import StageQueue, StageQueues
from pipeline.tokenization import tokenize_corpus
from pipeline.tokenize_summary import TokenizeSummary
from tests.job_runs import REPOSITORY
from tests.tiny_corpus import CLIPS_PER_GOOD_VIDEO, make_corpus, tokenize_config
from tests.tiny_models import tiny_config

NUM_CLIPS = 3 * CLIPS_PER_GOOD_VIDEO
DASHBOARD = REPOSITORY / "configs" / "deploy" / "grafana_dashboard.json"


class Page(html.parser.HTMLParser):
    """The tags, ids and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def numbers(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def totals(step: int, **changes: Any) -> RunTotals:
    values = {"num_clips": 4 * step, "num_videos": step, "decode_s": 0.5 * step} | changes
    return RunTotals(**values)


def summary(**changes: Any) -> TokenizeSummary:
    values = dict.fromkeys(TokenizeSummary.__dataclass_fields__, 0) | {
        "run_id": "run-1", "dataset_uri": "file:///tokens", "duration_s": 9.0, "num_tokenized": 3,
        "steady_clips_per_s": 2.0, "reasons": {},
    }  # fmt: skip
    return TokenizeSummary(**(values | changes))


def test_totals_add_up_and_tell_what_is_new() -> None:
    first = totals(1, reasons={"empty": 2})
    second = totals(3, reasons={"empty": 2, "truncated": 1})
    assert second.since(first) == totals(2, reasons={"truncated": 1})
    assert first.plus(second.since(first)) == second
    assert second.num_quarantined == 3


def test_seconds_of_threads_at_one_time_count_once() -> None:
    clock = BusyClock()
    began_s = time.monotonic()
    clock.start()
    time.sleep(0.02)
    clock.start()
    time.sleep(0.02)
    spent_s = clock.stop() + clock.stop()
    assert 0.04 <= spent_s <= time.monotonic() - began_s
    time.sleep(0.03)
    clock.start()
    assert clock.stop() < 0.03


def test_a_timeline_of_any_length_stays_small_and_keeps_both_ends() -> None:
    timeline = RunTimeline()
    for step in range(1, 20_000):
        timeline.note(float(step), totals(step))
    moments = timeline.moments
    assert len(moments) <= MAX_MOMENTS + 1
    assert moments[0].at_s == 0
    assert moments[-1] == Moment(19_999.0, totals(19_999))
    gaps = [second.at_s - first.at_s for first, second in pairwise(moments[:-1])]
    assert max(gaps) <= 2.1 * min(gaps)


def test_a_log_gets_plain_lines_and_no_control_characters(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    stream = io.StringIO()
    progress = RunProgress(8, stream)
    with caplog.at_level(logging.INFO):
        for step in range(12):
            now_s += 1.0
            progress.note(totals(min(step, 7)))
    assert stream.getvalue() == ""
    assert [record.message for record in caplog.records] == [
        "4 of 8 videos done, 0 quarantined, 16 clips tokenized",
        "7 of 8 videos done, 0 quarantined, 28 clips tokenized",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """The lines that a terminal would show."""
        lines = [""]
        for part in re.split(r"(\x1b\[1A\x1b\[2K|\n)", self.getvalue()):
            if part == "\n":
                lines.append("")
            elif part.startswith("\x1b"):
                lines.pop()
                lines[-1] = ""
            else:
                lines[-1] += part
        return lines[:-1]


def test_a_terminal_shows_one_live_line_per_stage_below_the_log() -> None:
    terminal = Terminal()
    handler = logging.StreamHandler(terminal)
    logging.getLogger().addHandler(handler)
    try:
        progress = RunProgress(8, terminal)
        progress.note(totals(2))
        logging.getLogger("test").warning("something happened")
        progress.note(totals(4, reasons={"empty": 1}))
        progress.close()
    finally:
        logging.getLogger().removeHandler(handler)
    first, *stages = terminal.shown()
    assert first == "something happened"
    assert [line.split()[0] for line in stages] == ["decode", "encode", "commit"]
    assert "████████████░░░░░░░░░░░░ 4 of 8 videos, 1 quarantined" in stages[0]
    assert handler.filters == []


def test_after_a_lost_committer_counts_go_on_and_the_loss_is_counted() -> None:
    progress = RunProgress(8, io.StringIO())
    progress.note(totals(3))
    progress.restart()
    progress.note(totals(1))
    assert (progress.totals.num_videos, progress.totals.num_retries) == (4, 1)


def test_a_page_is_whole_in_itself_and_escapes_what_it_shows() -> None:
    evil = "<script>alert(1)</script>"
    timeline = [Moment(2.0 * step, totals(step)) for step in range(5)]
    row = {"video_uri": f"file:///{evil}.mp4", "reason": "empty", "message": f"{evil} \udc80"}
    text = RunPage(
        summary(dataset_uri=f"file:///{evil}", reasons={evil: 2, "empty": 1}),
        timeline,
        [row],
        f"source: {evil}",
    ).html()
    page = Page(text)
    text.encode()
    assert page.numbers("script") == 0
    assert page.text.count(evil) >= 4
    sections = {values["id"] for tag, values in page.tags if tag == "section"}
    assert sections >= {"throughput", "stages", "stage-times", "reasons", "examples", "config"}
    assert page.numbers("polyline") == 4
    assert page.numbers("rect") == 4 + 2
    assert not re.findall(r"(?:src|href)=|https?://|@import|url\(", text)
    points = [values["points"] for tag, values in page.tags if tag == "polyline"]
    heights = {point.split(",")[1] for point in str(points[0]).split()}
    assert len(heights) == 1  # two clips a second all the time


def test_a_page_of_a_run_without_work_says_so() -> None:
    text = RunPage(summary(), [], [], "").html()
    assert "too short to tell" in text
    assert "No video was quarantined." in text


@pytest.mark.ray
def test_a_run_leaves_its_counts_and_its_page(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    found = tokenize_corpus(tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens"))
    dataset = TokenDataset.open(tmp_path / "tokens")
    values = json.loads(dataset.read_run_file(found.run_id, "summary.json") or "")
    counts = values["totals"]
    assert counts["num_videos"] == 6
    assert counts["num_clips"] == NUM_CLIPS
    assert counts["num_frames"] == NUM_CLIPS * tiny_config().geometry.num_frames
    assert counts["num_tokens"] == NUM_CLIPS * tiny_config().num_tokens
    assert counts["bytes_in"] == sum(f.stat().st_size for f in corpus.rglob("*") if f.is_file())
    assert counts["bytes_out"] == sum(dataset.clips.file_sizes().values())
    assert counts["reasons"] == found.reasons
    assert counts["num_commits"] == 1
    assert min(counts[name] for name in ("decode_s", "encode_s", "commit_s")) > 0
    page = Page(dataset.read_run_file(found.run_id, "index.html") or "")
    for reason in found.reasons:
        assert reason in page.text
    assert "broken.mp4" in page.text


def expected_metrics() -> set[str]:
    """The names that docs and dashboard may use."""
    expressions = json.dumps(json.loads(DASHBOARD.read_text()))
    return set(re.findall(r"ray_sweettok_\w+", expressions))


@pytest.mark.ray
def test_prometheus_finds_a_runs_counts_at_a_running_ray(ray_cluster: None) -> None:
    import ray

    from pipeline.ray_metrics import RayMetrics

    metrics = ray.remote(RayMetrics).options(num_cpus=0).remote("s3://user:secret@bucket/tokens")
    counts = RunTotals(3, 5, 85, 640, 1000, 500, 1.5, 2.5, 0.25, 1, 2, {"empty": 4})
    queues = StageQueues(StageQueue(7, 1), StageQueue(2, 2), StageQueue(30))
    ray.get(metrics.note.remote(counts.since(RunTotals()), [0.25], queues))
    later = counts.plus(RunTotals(num_clips=2))
    ray.get(metrics.note.remote(later, [], queues))
    port = ray.nodes()[0]["MetricsExportPort"]
    deadline_s = time.monotonic() + 90
    while True:
        ray.get(metrics.note.remote(later, [], queues))  # a depth is forgotten if not told again
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if "sweettok" in line]
        # Other runs of this Ray have counts of their own.
        samples = [line for line in lines if not line.startswith("#") and "@bucket/tokens" in line]
        names = {re.split(r"[{ ]", line)[0] for line in samples}
        if expected_metrics() <= names or time.monotonic() > deadline_s:
            break
        time.sleep(1)
    assert expected_metrics() <= names, names
    assert not any("secret" in line for line in samples)

    def value(name: str, **tags: str) -> float:
        wanted = [f'{key}="{text}"' for key, text in tags.items()]
        (line,) = [s for s in samples if s.startswith(f"{name}{{") and all(w in s for w in wanted)]
        return float(line.rsplit(" ", 1)[1])

    assert value("ray_sweettok_clips_total") == 7
    assert value("ray_sweettok_stage_seconds_total", stage="encode") == 2.5
    assert value("ray_sweettok_quarantined_total", reason="empty") == 4
    assert value("ray_sweettok_commit_latency_seconds_count") == 1
    assert value("ray_sweettok_queue_depth", stage="encode") == 2


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "panels", "schemaVersion", "templating", "time"} <= board.keys()
    assert board["schemaVersion"] >= 36
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert panel["type"] in {"timeseries", "stat", "bargauge", "heatmap"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            ours = "ray_sweettok_" in target["expr"] and "$dataset" in target["expr"]
            assert ours or "ray_node_gpus_" in target["expr"]
