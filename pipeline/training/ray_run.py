"""One run of Ray Train: room for it, what is there of it, its workers, its last checkpoint.

What the workers do and what a checkpoint means is the business of whoever trains; this is the part
that the tokenizer and the generator share.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

import fsspec
import ray.exceptions
import ray.train
import ray.train.torch
import torch

from pipeline.cluster import check_room, has_gpu
from pipeline.errors import PipelineError
from pipeline.storage import is_local, local_path, normalized_uri
from pipeline.training.config import WorkersConfig
from pipeline.worker_errors import as_pipeline_error

_FEWER_CPUS = "lower workers.num_workers or workers.num_cpus_per_worker"
_ProgressT = TypeVar("_ProgressT")


class RunPlace(Protocol):
    """Where a run keeps its checkpoints: the part of its `run` settings that is read here."""

    @property
    def storage_path(self) -> str:
        """Directory or URI that all nodes reach."""

    @property
    def name(self) -> str:
        """Name of the run below it."""

    @property
    def keep_checkpoints(self) -> int:
        """How many checkpoints are kept."""


def check_storage(run: RunPlace) -> None:
    """Finds here what Ray Train would stumble over once its workers are up.

    Raises:
        PipelineError: `run.storage_path` is a file.
    """
    storage = run.storage_path
    if is_local(storage) and Path(local_path(storage)).is_file():
        raise PipelineError(f"run.storage_path: {storage} is a file; give a directory")


def check_workers_fit(
    workers: WorkersConfig, *, num_other_cpus: int = 0, otherwise: str = ""
) -> None:
    """Refuses to wait for ever for resources that the cluster does not have.

    Args:
        workers: The workers; Ray must be connected.
        num_other_cpus: CPU cores that the run needs beside its workers.
        otherwise: What helps besides fewer cores for the workers.

    Raises:
        PipelineError: There are too few CPUs or GPUs.
    """
    num_cpus = workers.num_workers * workers.num_cpus_per_worker + num_other_cpus
    check_room(num_cpus, f"{_FEWER_CPUS}{otherwise}")
    if workers.use_gpu:
        check_room(
            workers.num_workers,
            "lower workers.num_workers, or set workers.use_gpu to null (GPUs if there are any)",
            resource="GPU",
        )


def found_progress(
    run: RunPlace, file_name: str, parse: Callable[[bytes], _ProgressT]
) -> dict[str, _ProgressT]:
    """How far the run's checkpoints are, by their places; a half-copied one is none.

    Args:
        run: Where they are.
        file_name: The file in each that tells.
        parse: Reads it; raises ValueError if it is half-written.
    """
    filesystem, path = fsspec.url_to_fs(f"{normalized_uri(run.storage_path)}/{run.name}")
    found = {}
    for file in filesystem.glob(f"{path}/checkpoint_*/{file_name}"):
        with contextlib.suppress(ValueError, FileNotFoundError):
            found[file.rpartition("/")[0]] = parse(filesystem.cat_file(file))
    return found


def create_trainer(
    work: Callable[[dict[str, Any]], None],
    values: dict[str, Any],
    workers: WorkersConfig,
    run: RunPlace,
    datasets: Mapping[str, Any] | None = None,
) -> ray.train.torch.TorchTrainer:
    """Workers that each run `work(values)`, restarted from the last checkpoint if one is lost."""
    use_gpu = has_gpu() if workers.use_gpu is None else workers.use_gpu
    return ray.train.torch.TorchTrainer(
        work,
        train_loop_config=values,
        datasets=dict(datasets or {}),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": workers.num_cpus_per_worker}
            | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            storage_path=normalized_uri(run.storage_path),
            name=run.name,
            failure_config=ray.train.FailureConfig(
                max_failures=workers.max_failures, controller_failure_limit=workers.max_failures
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=run.keep_checkpoints),
        ),
    )


def last_checkpoint(trainer: ray.train.torch.TorchTrainer, run: RunPlace) -> ray.train.Checkpoint:
    """Trains to the end; the run's last checkpoint.

    Raises:
        PipelineError: Training failed for good, or left no checkpoint.
    """
    try:
        result = fit_interruptibly(trainer)
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise PipelineError(f"training failed: {as_pipeline_error(error)}") from error
    if result.checkpoint is None:
        raise PipelineError(
            f"training ended without a checkpoint; see the logs under {run.storage_path}"
        )
    return result.checkpoint


def fit_interruptibly(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """`trainer.fit()` in a thread of its own.

    On the main thread Ray Train takes Ctrl-C for itself and ends the process with exit code 1 after
    a quarter of a minute; here it interrupts the job like any other.
    """
    outcome: Future[ray.train.Result] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            outcome.set_exception(error)
        finally:
            if not outcome.done():
                outcome.set_exception(PipelineError("training broke off; see the traceback above"))

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    return outcome.result()


def worker_device(workers: WorkersConfig) -> torch.device:
    """Within a worker: the device that it computes on, with its share of the node's threads."""
    device = ray.train.torch.get_device()
    assert isinstance(device, torch.device)
    if device.type == "cpu":
        torch.set_num_threads(workers.num_cpus_per_worker)
    return device
