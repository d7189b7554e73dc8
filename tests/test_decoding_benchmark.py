"""The benchmark of decoding: every way reads every file, and what is left out is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.decoding_benchmark import DecodingBenchmarkConfig, run_decoding_benchmark
from pipeline.errors import PipelineError
from tests.video_factory import has_encoder


def config_for(folder: Path, **changes: object) -> DecodingBenchmarkConfig:
    values = {
        "codecs": ["h264"],
        "heights_px": [72],
        "gop_frames": [12],
        "num_frames": 40,
        "target_px": 32,
        "decoders": ["pyav", "decord"],
        "num_threads": [1],
        "strides": [1, 8],
        "num_rounds": 2,
        "directory": str(folder / "videos"),
        "output": str(folder / "out.json"),
    }
    return DecodingBenchmarkConfig.from_mapping(values | changes)


def test_every_way_is_measured(tmp_path: Path) -> None:
    report = run_decoding_benchmark(config_for(tmp_path, ffmpeg="no-such-program"))
    assert [it.way for it in report.measurements] == [
        "pyav decode alone, 1 thread",
        "pyav bicubic, 1 thread",
        "pyav bicubic, 1 thread, in a child",
        "pyav bicubic, 1 thread, every 8th frame",
        "pyav bicubic, 1 thread, every 8th frame, in a child",
        "pyav yuv_bicubic, 1 thread",
        "pyav yuv_bicubic, 1 thread, in a child",
        "pyav yuv_bicubic, 1 thread, every 8th frame",
        "pyav yuv_bicubic, 1 thread, every 8th frame, in a child",
        "decord bicubic, 1 thread",
        "decord yuv_bicubic, 1 thread",
    ]
    assert all(len(it.cpu_s) == len(it.wall_s) == 2 for it in report.measurements)
    children = [it for it in report.measurements if it.peak_bytes]
    assert all(it.way.endswith("in a child") for it in children)
    assert len(children) == 4
    assert report.left_out == ("FFmpeg's own program: there is no no-such-program on this machine",)
    assert report.table().count("\n") == 2 + len(report.measurements)
    stored = json.loads((tmp_path / "out.json").read_text())
    assert all(it["frames_per_cpu_s"] > 0 for it in stored["measurements"])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs FFmpeg's program")
def test_ffmpeg_itself_is_the_yardstick(tmp_path: Path) -> None:
    report = run_decoding_benchmark(config_for(tmp_path, decoders=["pyav"], strides=[1]))
    shares = {it.way: it.cpu_share_of_ffmpeg for it in report.measurements}
    assert shares["ffmpeg scale, 1 thread"] == 1
    assert all(share for share in shares.values())


def test_a_file_that_a_decoder_refuses_is_named(tmp_path: Path) -> None:
    changes = {"codecs": ["av1"], "decoders": ["decord"], "strides": [1], "ffmpeg": "none-here"}
    if not has_encoder("libsvtav1"):
        pytest.skip("this build of FFmpeg has no such encoder")
    report = run_decoding_benchmark(config_for(tmp_path, **changes))
    assert [it.way for it in report.measurements] == ["pyav decode alone, 1 thread"]
    assert any("av1-72p-gop12-40, decord" in line for line in report.left_out)


def test_a_source_that_is_missing_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"nowhere\.mp4 cannot be read"):
        run_decoding_benchmark(config_for(tmp_path, source="nowhere.mp4"))
