"""Training jobs in processes of their own, killed without warning while they run."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.job_runs import REPOSITORY, job_environment


def start_job(job: str, values: dict[str, Any], root: Path) -> subprocess.Popen[bytes]:
    """`python jobs/<job>.py` with these settings; what it says is appended to `root`/log."""
    root.mkdir(exist_ok=True)
    config = root / "config.yaml"
    # Phases have an order.
    config.write_text(yaml.safe_dump(values, sort_keys=False))
    command = [sys.executable, f"jobs/{job}.py", "--config", str(config)]
    with (root / "log").open("a") as log:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=job_environment(), stdout=log, stderr=subprocess.STDOUT
        )


def kill_worker_then_driver(job: subprocess.Popen[bytes], storage: Path) -> None:
    """Kills a worker after a first checkpoint, and the driver after one of the run restored."""
    wait_for_checkpoints(storage, job, num_restores=0)
    workers = training_workers(job)
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)
    wait_for_checkpoints(storage, job, num_restores=1)
    workers, family = training_workers(job), psutil.Process(job.pid).children(recursive=True)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    psutil.wait_procs(workers, timeout=60)
    for process in family:  # some of Ray's agents look only now and then whether it is still there
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def last_checkpoint(root: Path) -> Path:
    return max((root / "checkpoints").glob("*/checkpoint_[0-9]*"))


def training_workers(job: subprocess.Popen[bytes]) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(job.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile
            if "RayTrainWorker" in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
    return found


def wait_for_checkpoints(storage: Path, job: subprocess.Popen[bytes], num_restores: int) -> None:
    """Until a checkpoint counts that was made after so many restores."""
    deadline = time.monotonic() + 180
    while not any(made_after(path) == num_restores for path in noted_checkpoints(storage)):
        assert job.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.1)


def noted_checkpoints(storage: Path) -> list[Path]:
    """A checkpoint counts once Ray Train's controller has noted it, some time after writing."""
    snapshots = [path.read_text() for path in storage.glob("*/checkpoint_manager_snapshot.json")]
    return [
        path
        for path in storage.glob("*/checkpoint_[0-9]*")
        if any(path.name in snapshot for snapshot in snapshots)
    ]


def made_after(checkpoint: Path) -> int | None:
    """Restores before a checkpoint; None if it is being deleted."""
    try:
        return int(json.loads((checkpoint / "progress.json").read_text())["num_restores"])
    except (OSError, ValueError):
        return None
