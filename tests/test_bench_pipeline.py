"""The benchmark of the pipeline: its figures add up, and every side gives the same tokens."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.stage_costs import read_costs
from pipeline.throughput.benchmark import bench_pipeline, compare_tokens
from pipeline.throughput.clocks import Clock, WorkLog, most_at_one_time, read_work_logs
from pipeline.throughput.config import SIDES, TEXTBOOKS, PipelineBenchmarkConfig
from pipeline.throughput.figures import side_figures
from pipeline.throughput.goals import goals
from pipeline.throughput.gpu_sampler import GpuRecord
from pipeline.throughput.process_tree import ProcessRecord, TreeRecord, TreeSampler
from pipeline.throughput.report import ClipFacts, PipelineReport
from pipeline.throughput.sides import SideRun
from pipeline.throughput.stages_alone import decode_alone, encode_alone
from pipeline.throughput.tokens import DiskFigures, side_tokens
from pipeline.throughput.workplace import Outcome, Workplace
from sweettok.errors import ConfigError
from tests.tiny_corpus import CLIPS_PER_GOOD_VIDEO
from tests.video_factory import make_video

NAMES = ("a.mp4", "b b.mp4", "c.mkv")
NUM_CLIPS = len(NAMES) * CLIPS_PER_GOOD_VIDEO


def _config(corpus: Path, tokenizer: str, out: Path, **changes: Any) -> PipelineBenchmarkConfig:
    values: dict[str, Any] = {
        "source": {"uris": [str(corpus)]},
        "tokenizer": tokenizer,
        "encode": {"batch_size": 4, "num_cpus_per_actor": 0.5, "psnr_fraction": 0.0},
        "cluster": {"num_cpus": 2, "object_store_bytes": 200 * 2**20},
        "num_rounds": 1,
        "scratch": str(out / "scratch"),
        "output": str(out / "result.json"),
        "picture": str(out / "result.png"),
    }
    return PipelineBenchmarkConfig.from_mapping(values | changes)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 30 frames, twice the tokenizer's size."""
    folder = tmp_path_factory.mktemp("corpus")
    for name in NAMES:
        make_video(folder / name, num_frames=30)
    return folder


@pytest.mark.jobs
def test_all_sides_do_the_same_work_and_the_figures_add_up(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    report = bench_pipeline(_config(corpus, tokenizer_directory, tmp_path))
    assert not report.left_out
    (figures,) = report.rounds
    assert tuple(figures) == SIDES
    assert {each.num_clips for each in figures.values()} == {NUM_CLIPS}
    shares = dict(report.equal_shares)
    for textbook in TEXTBOOKS:
        assert 0 <= shares.pop(textbook) <= 1  # its pixels are another decoder's
    assert shares == {"encode": 1.0, "two_processes": 1.0, "serial": 1.0}
    for each in figures.values():
        assert each.cpu_s_per_clip == pytest.approx(sum(each.cpu_s_per_clip_by_kind.values()))
        assert 0 < each.cpu_s_per_clip * each.num_clips < each.total_cpu_s
        assert each.clips_per_s > 0
        assert each.startup_s > 0
        assert sum(each.peak_bytes_by_kind.values()) == each.peak_pss_bytes > 0
    ours = figures["pipeline"]
    assert ours.takes_turns == (not ours.num_gpus)
    stages = {"decoding and encoding"} if ours.takes_turns else {"decode tasks", "encoders"}
    assert stages | {"committer"} <= ours.cpu_s_per_clip_by_kind.keys()
    assert {"decoding child", "Ray's services"} <= ours.process_peak_bytes.keys()
    assert 0 < ours.encode_busy <= 1
    assert 0 < ours.commit_busy <= 1
    assert report.disk.num_clips == NUM_CLIPS
    assert 0 < report.disk.entropy_bytes_per_clip <= report.disk.bound_bytes_per_clip
    assert report.disk.token_bytes_per_clip < report.disk.file_bytes_per_clip
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["rounds"][0]["pipeline"]["num_clips"] == NUM_CLIPS
    assert 0 < stored["arithmetic_share"]["encode"] < 1
    costs = read_costs([tmp_path / "result.json"])
    assert costs.decode_core_s == pytest.approx(figures["decode"].cpu_s_per_clip)
    assert costs.encode_gpu_s == (1 / figures["encode"].clips_per_s if ours.num_gpus else 0)
    assert costs.clip_bytes == 9 * 32 * 48 * 3
    assert len(stored["goals"]) == 8
    with Image.open(tmp_path / "result.png") as picture:
        assert picture.width > 800
    assert not list((tmp_path / "scratch").iterdir())
    assert report.text().count("missed") + report.text().count("| met |") == 8


@pytest.mark.jobs
def test_made_up_frames_go_the_whole_way(tokenizer_directory: str, tmp_path: Path) -> None:
    config = _config(
        tmp_path / "nowhere", tokenizer_directory, tmp_path,
        mode="synthetic_frames", synthetic={"num_units": 4, "clips_per_unit": 6}, encode_clips=10,
        sides=["decode", "encode", "pipeline", "textbook"],
    )  # fmt: skip
    report = bench_pipeline(config)
    (figures,) = report.rounds
    assert {side: each.num_clips for side, each in figures.items()} == {
        "decode": 24, "encode": 10, "pipeline": 24
    }  # fmt: skip
    assert report.left_out == {"textbook": "textbook: read_videos has no made-up frames"}
    assert report.equal_shares == {"encode": 1.0}
    assert [goal.name for goal in report.goals] == ["CPU s per clip ÷ (decode + encode alone)"]
    with pytest.raises(PipelineError, match="none of the results measured decoding"):
        read_costs([config.output])


def test_no_model_and_no_videos(corpus: Path, tokenizer_directory: str, tmp_path: Path) -> None:
    """The modes leave out what they say, in the stages that all sides share."""
    changes: dict[str, Any] = {"encode_clips": 4}
    null = _config(corpus, tokenizer_directory, tmp_path, mode="null_encoder", **changes)
    assert encode_alone(_place(null, tmp_path / "null")).num_clips == 4
    assert len(set(side_tokens(tmp_path / "null").values())) == 1
    made_up = {"num_units": 3, "clips_per_unit": 5}
    nowhere = _config(
        tmp_path / "nowhere", tokenizer_directory, tmp_path,
        mode="synthetic_frames", synthetic=made_up, **changes,
    )  # fmt: skip
    place = _place(nowhere, tmp_path / "synthetic")
    assert decode_alone(place).num_clips == 15
    assert sum(log.total_clips for log in read_work_logs(place.clock_directory)) == 15
    assert encode_alone(place).num_clips == 4
    assert len(set(side_tokens(place.directory).values())) == 4


def _place(config: PipelineBenchmarkConfig, directory: Path) -> Workplace:
    directory.mkdir()
    return Workplace(config, directory)


def test_other_work_is_no_comparison() -> None:
    ours = {("a", 0): b"1", ("a", 1): b"2"}
    compare_tokens({"pipeline": ours, "serial": dict(ours), "encode": {("a", 1): b"2"}})
    assert compare_tokens({"pipeline": ours, "textbook": {("a", 0): b"1", ("a", 1): b"3"}}) == {
        "textbook": 0.5
    }
    with pytest.raises(PipelineError, match="serial gave other ids than the pipeline for 50"):
        compare_tokens({"pipeline": ours, "serial": {("a", 0): b"1", ("a", 1): b"3"}})
    with pytest.raises(PipelineError, match="textbook has 1 clips, the pipeline 2: 1 are missing"):
        compare_tokens({"pipeline": ours, "textbook": {("a", 0): b"1"}})


def test_sides_that_others_are_compared_with_cannot_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must hold encode"):
        _config(tmp_path, "x", tmp_path, sides=["decode", "pipeline"])


def test_what_lies_between_the_stages_loads_no_torch() -> None:
    """The driver, the committer and decode tasks: half a gigabyte each otherwise."""
    modules = "pipeline.tokenization, pipeline.decode_task, pipeline.throughput.variants"
    check = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


BURN = """
import subprocess, sys, time
began = time.process_time()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], "multiprocessing.spawn"])
while time.process_time() - began < 0.3: pass
child.wait()
print("done", flush=True)
sys.stdin.read()
"""
CHILD = "import time\nwhile time.process_time() < 0.5: pass\ntime.sleep(1.5)"


def test_children_count_although_they_end_before_their_parent() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BURN, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    started_s = time.monotonic()
    sampler = TreeSampler(process.pid)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    tree = sampler.stop()
    process.communicate()
    spent = tree.cpu_by_kind(started_s, time.monotonic())
    assert spent.keys() == {"main process", "helper process"}
    assert spent["helper process"] == pytest.approx(0.5, abs=0.06)
    assert 0.3 <= spent["main process"] < 0.5
    assert 0 < max(tree.peak_kinds_bytes.values()) <= tree.peak_pss_bytes
    assert [record.kind for record in tree.family(process.pid)] == list(spent)


def test_a_clock_keeps_what_was_written_before_the_end(tmp_path: Path) -> None:
    clock = Clock(tmp_path, "decode")
    for num_clips in (0, 2, 3):
        clock.note(time.monotonic() - 1.0, num_clips)
    (path,) = tmp_path.iterdir()
    with path.open("a") as file:
        file.write("[1.0, 2.")  # the process was killed here
    (log,) = read_work_logs(tmp_path)
    assert (log.stage, log.num_clips, log.total_clips) == ("decode", (2, 3), 5)
    assert log.busy_s == pytest.approx((1.0, 1.0), abs=0.01)
    assert log.clips_before(log.ended_s[0]) == 2


def test_pieces_of_several_threads_count_once(tmp_path: Path) -> None:
    log = WorkLog("encode", 1, 0.0, (4.0, 5.0, 9.0), (3.0, 3.0, 1.0), (1, 1, 1), (0.5, 2.0, 2.5))
    assert log.busy_between(0.0, 10.0) == pytest.approx(5.0)  # from 1 to 5, and from 8 to 9
    assert log.busy_between(3.0, 8.5) == pytest.approx(2.5)
    assert log.device_busy_between(0.0, 10.0) == 2.5
    assert log.device_busy_between(4.5, 10.0) == 2.0
    assert log.device_busy_between(5.5, 8.0) == 0.0
    clock = Clock(tmp_path, "encode")
    clock.note(time.monotonic(), 0)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: clock.note(time.monotonic() - 0.01, 1), range(400)))
    clock.close()
    (noted,) = read_work_logs(tmp_path)
    assert noted.total_clips == 400
    assert list(noted.ended_s) == sorted(noted.ended_s)


def test_workers_that_follow_each_other_count_as_one() -> None:
    first, second, third = (
        WorkLog("decode", pid, 0.0, (began_s + 1.0, ended_s), (1.0, 1.0), (1, 1))
        for pid, (began_s, ended_s) in enumerate([(0.0, 5.0), (5.5, 9.0), (2.0, 7.0)])
    )
    assert most_at_one_time([first]) == 1
    assert most_at_one_time([first, second]) == 1
    assert most_at_one_time([first, second, third]) == 2


def _pipeline_run() -> SideRun:
    """20 clips: decoded in 10 s with 4 CPU-s, encoded from second 5 to 15 with 8 CPU-s."""
    moments = np.arange(0.0, 21.0)
    decoder = ProcessRecord(2, 1, "decode task", list(moments), list(np.clip(moments, 0, 10) * 0.4))
    encoder = ProcessRecord(
        3, 1, "encoder", list(moments), list(3 + (np.clip(moments, 5, 15) - 5) * 0.8)
    )
    committer = ProcessRecord(4, 1, "committer", list(moments), list(moments * 0.02))
    services = ProcessRecord(5, 1, "Ray's services", list(moments), list(moments * 0.1))
    ended = tuple(np.arange(0.5, 10.5, 0.5))
    decode = WorkLog("decode", 2, 0.0, ended, (0.5,) * 20, (1,) * 20)
    batches = tuple(np.arange(7.0, 17.0, 2.0))
    encode = WorkLog("encode", 3, 5.0, batches, (1.5,) * 5, (4,) * 5)
    outcome = Outcome(20, 0.0, 0.0, 15.0, 16.0, commit_busy_s=1.0)
    tree = TreeRecord([decoder, encoder, committer, services])
    return SideRun("pipeline", -2.0, outcome, tree, (decode, encode))


def test_steady_state_leaves_out_what_was_done_before_it() -> None:
    figures = side_figures(_pipeline_run())
    decode_s, encode_s = 0.4 * 9.5 / 19, 8.0 / 20
    assert figures.cpu_s_per_clip_by_kind["decode tasks"] == pytest.approx(decode_s)
    assert figures.cpu_s_per_clip_by_kind["encoders"] == pytest.approx(encode_s)
    assert "Ray's services" not in figures.cpu_s_per_clip_by_kind
    # Ten clips were decoded before the encoder was there: a third of their work was done.
    num_clips = 20 - 10 * decode_s / (decode_s + encode_s)
    assert figures.clips_per_s == pytest.approx(num_clips / 10)
    assert figures.cpu_s_per_clip_by_kind["committer"] == pytest.approx(0.2 / num_clips)
    assert figures.services_cpu_s_per_clip == pytest.approx(1.0 / num_clips)
    assert (figures.startup_s, figures.steady_s, figures.finish_s) == (7.0, 10.0, 1.0)
    assert figures.decode_busy == pytest.approx(0.5)
    assert figures.encode_busy == pytest.approx(0.75)
    assert figures.commit_busy == pytest.approx(0.1)
    assert figures.verdict == "overhead-bound"
    assert figures.steady_share == pytest.approx(num_clips / 20)
    decoded = dataclasses.replace(figures, steady_share=0.1)
    assert decoded.verdict == "too short to tell"  # nearly all was done while encoders loaded


def test_stages_that_take_turns_count_once() -> None:
    """20 clips in 10 s: the process decodes with its child for 6 s of them and encodes for 3 s."""
    moments = list(np.arange(0.0, 13.0))
    worker = ProcessRecord(2, 1, "decoding encoder", moments, list(np.arange(0.0, 13.0) * 0.5))
    child = ProcessRecord(3, 2, "decoding child", moments, list(np.arange(0.0, 13.0) * 0.25))
    turns = tuple(np.arange(2.5, 12.5, 0.5))
    decode = WorkLog("decode", 2, 1.0, turns, (0.3,) * 20, (1,) * 20)
    encode = WorkLog("encode", 2, 2.0, tuple(np.arange(3.5, 13.5, 2.0)), (0.6,) * 5, (4,) * 5)
    outcome = Outcome(20, 0.0, 0.0, 12.0, 12.5)
    run = SideRun("pipeline", -2.0, outcome, TreeRecord([worker, child]), (decode, encode))
    figures = side_figures(run)
    assert figures.takes_turns
    kinds = figures.cpu_s_per_clip_by_kind
    assert kinds == {"decoding and encoding": pytest.approx(0.75 * 9.5 / 19)}
    assert figures.clips_per_s == pytest.approx(20 / 10)
    assert figures.decode_busy == pytest.approx(0.6)
    assert figures.encode_busy == pytest.approx(0.3)
    assert figures.verdict == "decode-bound"  # 90% busy, and most of it with decoding
    idle = dataclasses.replace(figures, decode_busy=0.4)
    assert idle.verdict == "overhead-bound"


def test_a_gpu_counts_as_busy_by_its_own_clock() -> None:
    """The encoder of `_pipeline_run` on half a GPU, which computed for 0.9 s of each batch."""
    run = _pipeline_run()
    decode, encode = run.logs
    on_gpu = dataclasses.replace(
        encode, busy_s=(2.0,) * 5, device_busy_s=tuple(np.arange(1, 6) * 0.9)
    )
    gpus = GpuRecord([4.0, 6.0, 14.0, 16.0], [1.0, 0.25, 0.75, 1.0], 3 * 2**30)
    outcome = dataclasses.replace(run.outcome, num_gpus=0.5)
    run = dataclasses.replace(run, outcome=outcome, logs=(decode, on_gpu), gpus=gpus)
    figures = side_figures(run)
    assert figures.gpu_busy == pytest.approx(5 * 0.9 / 10 / 0.5)
    assert figures.gpu_utilisation == pytest.approx(0.5)
    assert figures.gpu_peak_bytes == 3 * 2**30
    assert figures.encode_busy == pytest.approx(1.0)
    assert figures.verdict == "encode-bound"
    waiting = dataclasses.replace(figures, gpu_busy=0.3)
    assert waiting.verdict == "overhead-bound"  # its calls only waited for frames


def test_rates_of_a_gpu_are_told_per_gpu() -> None:
    ours = dataclasses.replace(side_figures(_pipeline_run()), num_gpus=2.0, clips_per_s=100.0)
    alone = dataclasses.replace(
        ours, clips_per_s=80.0, num_gpus=1.0, flops_per_clip=5e9, matrix_flops_per_s=1e12,
        device="a GPU", gpu_busy=0.95,
    )  # fmt: skip
    config = PipelineBenchmarkConfig.from_mapping({"source": {"uris": ["x"]}, "tokenizer": "y"})
    disk = DiskFigures(20, 400.0, 200.0, 190.0, 210.0)
    figures = {"decode": ours, "encode": alone, "pipeline": ours}
    report = PipelineReport(config, (figures,), {}, {}, disk, ClipFacts(1280, 3_342_336))
    assert report.arithmetic_share("encode") == pytest.approx(0.4)
    assert report.arithmetic_share("pipeline") == pytest.approx(0.25)
    assert report.tokens_per_s_per_gpu("pipeline") == pytest.approx(64_000)
    assert "64,000 tokens/s/GPU" in report.text()
    assert "GPU busy 95% / 5%" in report.text()
    stored = report.to_json_values()
    assert stored["clip"] == {"num_tokens": 1280, "pixel_bytes": 3_342_336}
    assert stored["arithmetic_share"] == pytest.approx({"encode": 0.4, "pipeline": 0.25})


def test_goals_are_ratios_within_a_round() -> None:
    ours = side_figures(_pipeline_run())
    rounds = []
    for factor in (1.0, 2.0, 4.0):  # a machine that gets slower: the ratios stay
        figures = {"pipeline": _scaled(ours, factor)}
        for side in ("decode", "encode", "two_processes", "serial", "textbook"):
            figures[side] = _scaled(ours, factor, cost=0.5, rate=0.5, memory=2)
        rounds.append(figures)
    found = goals(rounds, disk_ratio=math.nan)  # type: ignore[arg-type]
    assert [goal.lowest for goal in found] == pytest.approx([goal.highest for goal in found])
    assert [goal.value for goal in found] == pytest.approx([1.0, 2.0, 2.0, 2.0, 0.5])
    assert all(goal.is_met for goal in found)


def _scaled(figures: Any, slower: float, cost: float = 1, rate: float = 1, memory: int = 1) -> Any:
    return dataclasses.replace(
        figures,
        cpu_s_per_clip=figures.cpu_s_per_clip * slower * cost,
        clips_per_s=figures.clips_per_s / slower * rate,
        peak_pss_bytes=1000 * memory,
    )
