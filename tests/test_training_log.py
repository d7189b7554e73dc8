"""What a run leaves to look at: its numbers over restarts, and the curves drawn from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.errors import DatasetError
from pipeline.training.curves import (
    PANEL_HEIGHT,
    PANEL_WIDTH,
    PlotConfig,
    plot_training,
    read_metrics,
    training_curves,
    training_panels,
)
from pipeline.training.run_log import METRICS_FILE, RunLog

ROWS = [
    {"kind": "train", "phase": "image", "step": 10, "loss/squared_error": 0.5, "psnr_db": 12.0,
     "usage/spatial": 0.2, "perplexity/spatial": 30.0},
    {"kind": "train", "phase": "video", "step": 20, "loss/squared_error": 0.05, "psnr_db": 18.0,
     "usage/spatial": 0.4, "perplexity/spatial": 60.0, "usage/temporal": 0.1,
     "perplexity/temporal": 9.0, "loss/quantizer": -0.2},
    {"kind": "evaluation", "phase": "video", "step": 20, "psnr_db": 17.0, "image_psnr_db": 19.0,
     "usage/spatial": 0.35, "usage/temporal": 0.1},
]  # fmt: skip


def test_a_restored_run_continues_its_log_without_repeating_steps(tmp_path: Path) -> None:
    board = str(tmp_path / "tensorboard")
    directories = [tmp_path / name for name in ("first", "checkpoint", "second")]
    for directory in directories:
        directory.mkdir()
    log = RunLog(directories[0], tensorboard=board)
    log.scalars("train", "video", 10, {"psnr_db": 10.0})
    log.copy_to(directories[1])
    log.scalars("train", "video", 20, {"psnr_db": -1.0})  # lost: after the checkpoint
    log.close()

    log = RunLog(directories[2], tensorboard=board, restored=directories[1], num_steps=10)
    log.scalars("train", "video", 20, {"psnr_db": 20.0})
    log.pictures(20, torch.zeros(2, 6, 8, 3, dtype=torch.uint8))
    log.close()
    rows = [json.loads(line) for line in (directories[2] / METRICS_FILE).open()]
    assert [(row["step"], row["psnr_db"]) for row in rows] == [(10, 10.0), (20, 20.0)]
    events = EventAccumulator(board, {"images": 0, "scalars": 0}).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("train/psnr_db")]
    assert shown == [(10, 10.0), (20, 20.0)]
    assert len(events.Images("reconstruction/1")) == 1


def test_a_new_run_hides_what_an_old_one_left_in_its_tensorboard(tmp_path: Path) -> None:
    board = str(tmp_path / "tensorboard")
    for value in (1.0, 2.0):
        log = RunLog(tmp_path, tensorboard=board)
        log.scalars("train", "video", 10, {"psnr_db": value})
        log.close()
    events = EventAccumulator(board, {"scalars": 0}).Reload()
    assert [event.value for event in events.Scalars("train/psnr_db")] == [2.0]


def test_panels_hold_the_logged_numbers() -> None:
    losses, psnr, usage, perplexity = training_panels(ROWS)
    assert [series.label for series in losses.series] == ["squared error"]
    assert losses.series[0].points == ((10, 0.5), (20, 0.05))
    assert [(series.label, series.is_held_out) for series in psnr.series] == [
        ("training batches", False), ("held-out clips", True), ("held-out images", True)
    ]  # fmt: skip
    assert [series.label for series in usage.series] == [
        "spatial", "spatial, held out", "temporal", "temporal, held out"
    ]  # fmt: skip
    assert [series.label for series in perplexity.series] == ["spatial", "temporal"]


def test_a_rising_curve_rises_in_the_picture() -> None:
    picture = np.asarray(training_curves(ROWS), dtype=int)
    assert picture.shape == (2 * PANEL_HEIGHT, 2 * PANEL_WIDTH, 3)
    psnr = picture[40 : PANEL_HEIGHT - 40, PANEL_WIDTH + 70 : 2 * PANEL_WIDTH - 20]
    is_line = psnr[..., 2] - psnr[..., 0] > 80  # the first line is the only blue one
    heights = [np.flatnonzero(column).mean() for column in is_line.T if column.any()]
    assert len(heights) > 0.9 * is_line.shape[1]
    assert heights[0] > heights[len(heights) // 2] > heights[-1]


def test_metrics_that_are_none_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_metrics(tmp_path / "nothing.jsonl")
    path = tmp_path / "other.jsonl"
    path.write_text('{"caption": "a dog"}\n')
    with pytest.raises(DatasetError, match="holds no line of training"):
        read_metrics(path)
    path.write_text("no json\n")
    with pytest.raises(DatasetError, match="is not JSON lines"):
        read_metrics(path)
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    picture = tmp_path / "new" / "curves.png"
    plot_training(PlotConfig(metrics=str(path), picture=str(picture)))
    assert picture.stat().st_size > 1000
