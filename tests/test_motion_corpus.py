"""The motion corpus: what is said of a clip is true of it; a seed always gives the same clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.errors import SourceError
from pipeline.motion_corpus.captions import COLOURS
from pipeline.motion_corpus.corpus import MotionCorpusConfig, make_motion_corpus
from pipeline.motion_corpus.motions import (
    JOINTS,
    MOTION_NAMES,
    SPHERICAL,
    load_motion,
    motion_from_frames,
)
from pipeline.motion_corpus.plans import plan_clip
from pipeline.motion_corpus.renderer import FigureRenderer
from pipeline.motion_corpus.sheet import MotionCorpusJobConfig, make_corpus_with_sheet


def config_for(directory: Path, **changes: object) -> MotionCorpusConfig:
    values = {
        "directory": str(directory),
        "num_train_clips": 4,
        "num_test_clips": 2,
        "num_frames": 6,
        "size_px": 32,
        "num_processes": 1,
    }
    return MotionCorpusConfig.from_mapping(values | changes)


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*.*")}


def test_the_rest_is_rendered_as_if_it_had_never_been_interrupted(tmp_path: Path) -> None:
    clips = make_motion_corpus(config_for(tmp_path / "a"))
    assert [(clip.split, clip.motion) for clip in clips] == [
        *(("train", name) for name in MOTION_NAMES[:4]),
        *(("test", name) for name in MOTION_NAMES[:2]),
    ]
    undisturbed = content(tmp_path / "a")
    kept = clips[0].path.stat().st_mtime_ns
    clips[1].path.unlink()
    clips[5].path.unlink()
    (tmp_path / "a/captions.jsonl").unlink()
    assert make_motion_corpus(config_for(tmp_path / "a", num_processes=2)) == clips
    assert content(tmp_path / "a") == undisturbed
    assert clips[0].path.stat().st_mtime_ns == kept


def test_a_larger_corpus_keeps_the_clips_and_another_one_is_refused(tmp_path: Path) -> None:
    small = make_motion_corpus(config_for(tmp_path, num_train_clips=1, num_test_clips=1))
    before = [clip.path.read_bytes() for clip in small]
    larger = make_motion_corpus(config_for(tmp_path, num_train_clips=2, num_test_clips=1))
    assert [larger[0].path.read_bytes(), larger[2].path.read_bytes()] == before
    with pytest.raises(SourceError, match=r"seed is 0 there, 1 wanted"):
        make_motion_corpus(config_for(tmp_path, seed=1))


def test_a_row_describes_its_video(tmp_path: Path) -> None:
    clips = make_motion_corpus(config_for(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    for clip, row in zip(clips, rows, strict=True):
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 32, 32)
            assert float(stream.average_rate) == 12
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        assert len(frames) == 6
        assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 1
        assert row["video"].endswith(f"_{row['label']}.mp4")
        assert MOTION_NAMES[row["label_id"]] == row["label"]
        assert {word for word in row["caption"].split() if word in COLOURS} == {row["colour"]}
        assert ("small" in row["caption"]) == (row["size"] == "small")


def test_no_view_of_the_test_part_was_trained_on() -> None:
    plans = {
        split: [plan_clip(3, split, index, 2.0) for index in range(300)]
        for split in ("train", "test")
    }
    worn = {
        split: {(plan.motion, plan.colour) for plan in plans[split]} for split in ("train", "test")
    }
    assert not worn["train"] & worn["test"]
    directions = {
        split: np.array([plan.azimuth_degrees for plan in plans[split]])
        for split in ("train", "test")
    }
    apart = np.abs(directions["train"][:, None] - directions["test"])
    assert np.minimum(apart, 360 - apart).min() > 2.9
    for split in ("train", "test"):
        assert directions[split].max() - directions[split].min() > 330
        labels = [plan.label for plan in plans[split]]
        assert np.bincount(labels).tolist() == [20] * len(MOTION_NAMES)


def test_a_figure_goes_from_cycle_to_cycle_without_a_jump() -> None:
    for name in MOTION_NAMES:
        motion = load_motion(name)
        if motion.ending == "hold":
            continue
        moments_s = motion.duration_s + np.array([-1e-6, 1e-6])
        before_and_after = motion.poses_at(moments_s)
        np.testing.assert_allclose(*before_and_after.positions_m, atol=1e-4, err_msg=name)
        for values in (before_and_after.rotations, *before_and_after.joints):
            before, after = values
            # A quaternion and its negative are one rotation.
            flipped = len(before) == SPHERICAL and before @ after < 0
            np.testing.assert_allclose(before, -after if flipped else after, atol=1e-3)


def test_every_rotation_is_a_unit_quaternion_at_any_time() -> None:
    generator = np.random.default_rng(0)
    for name in MOTION_NAMES:
        poses = load_motion(name).poses_at(generator.uniform(0, 20, 300))
        for values in (poses.rotations, *poses.joints):
            if values.shape[1] == SPHERICAL:
                np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-9)


def test_interpolation_takes_the_shorter_way_whatever_the_stored_signs() -> None:
    frames = np.zeros((3, 44))
    frames[:, 0] = 1.0
    columns, column = [4], 8
    for _, size in JOINTS:
        columns += [column] if size == SPHERICAL else []
        column += size
    angles = np.radians([0, 40, 80])
    for column in columns:
        frames[:, column], frames[:, column + 2] = np.cos(angles / 2), np.sin(angles / 2)
    flipped = frames.copy()
    flipped[1, [number for column in columns for number in range(column, column + 4)]] *= -1
    half_way = motion_from_frames("walk", flipped).poses_at(np.array([0.5, 1.0, 1.5]))
    expected = np.radians([20, 40, 60])
    for rotations in (half_way.rotations, half_way.joints[0]):
        np.testing.assert_allclose(np.abs(rotations[:, 1]), np.sin(expected / 2), atol=1e-9)
        np.testing.assert_allclose(np.abs(rotations[:, 3]), np.cos(expected / 2), atol=1e-9)


def test_a_repeated_walk_goes_on_and_a_figure_that_got_up_stands() -> None:
    walk = load_motion("walk")
    first, second = walk.poses_at(np.array([0.3, 0.3 + walk.duration_s])).positions_m
    np.testing.assert_allclose(second - first, [1.2, 0, 0], atol=0.05)
    getup = load_motion("getup_faceup")
    lying, *standing = getup.poses_at(np.array([0.0, 5.0, 9.0])).positions_m
    assert lying[1] < 0.3 < 0.7 < standing[0][1]
    np.testing.assert_array_equal(*standing)


def test_rendering_depends_on_the_plan_alone_and_prints_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    plans = [plan_clip(0, "train", index, 0.5) for index in (0, 7)]
    with FigureRenderer(32, 12.0) as renderer:
        forwards = [renderer.render(plan, 3) for plan in plans]
    with FigureRenderer(32, 12.0) as renderer:
        backwards = [renderer.render(plan, 3) for plan in reversed(plans)]
    for once, again in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(once, again)
    assert (forwards[0] != forwards[1]).mean() > 0.5
    assert capfd.readouterr().out == ""


def test_the_sheet_shows_one_clip_of_each_motion(tmp_path: Path) -> None:
    config = MotionCorpusJobConfig(
        corpus=config_for(tmp_path / "c"), picture=str(tmp_path / "sheet.png")
    )
    assert len(make_corpus_with_sheet(config)) == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 4 * 16


def test_without_pybullet_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pybullet_data", None)
    with pytest.raises(SourceError, match=r"pip install -e '.\[motion\]'"):
        make_motion_corpus(config_for(tmp_path / "c"))
    assert not (tmp_path / "c").exists()
