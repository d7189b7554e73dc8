"""A cluster of three raylets on this machine whose processes are killed with SIGKILL.

The cluster is started by a process of its own (`python -m tests.chaos_cluster`), so that whatever
Ray the test process has, or will have, stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import psutil
from ray._private.utils import write_ray_address
from ray.cluster_utils import Cluster

from tests.job_runs import REPOSITORY, free_port, job_environment

NUM_RAYLETS = 3
OBJECT_STORE_BYTES = 80 * 2**20
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_JOB_STOP_WAIT_TIME_S": "60"}
# A dead node is noticed within two seconds instead of fifteen.
SYSTEM_CONFIG = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 3,
}
WORKERS = ("ray::IDLE", "ray::MapBatches(decode_units)")
ACTORS = ("ray::MapWorker", "ray::StreamCommitter")
KINDS = ("driver", "actor", "raylet", "worker")
WITH_JOBS = "with-jobs"


class ChaosCluster:
    """Three raylets, each with one CPU, the first of them the head's.

    Args:
        takes_jobs: Start the server that takes submissions as well.

    Attributes:
        address: For RAY_ADDRESS.
        dashboard_url: For submissions, if there is a server.
    """

    def __init__(self, *, takes_jobs: bool = False) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos_cluster", *([WITH_JOBS] if takes_jobs else [])],
            cwd=REPOSITORY, env=job_environment() | ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.address = self.dashboard_url = ""
        self._raylets: list[int] = []
        self._receive()

    def shutdown(self) -> None:
        """Ends all processes of the cluster."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(120)

    def heal(self) -> None:
        """Replaces nodes whose raylet is dead, as an operator would."""
        assert self._process.stdin is not None
        self._process.stdin.write("heal\n")
        self._process.stdin.flush()
        self._receive()

    def kill(self, kind: str, driver_pid: int, choice: random.Random) -> str | None:
        """Kills one process of `kind`; returns what it was, or None if none is there now."""
        victims = {
            "driver": lambda: [("driver", driver_pid)],
            "actor": lambda: self._processes(ACTORS),
            "worker": lambda: self._processes(WORKERS),
            "raylet": self._numbered_raylets,
            "worker raylet": lambda: self._numbered_raylets()[1:],
        }[kind]()
        if not victims:
            return None
        name, pid = choice.choice(sorted(victims))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return name
        return None

    def _numbered_raylets(self) -> list[tuple[str, int]]:
        return [(f"raylet {number}", pid) for number, pid in enumerate(self._raylets)]

    def _receive(self) -> None:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        self.address, self._raylets = answer["address"], answer["raylets"]
        self.dashboard_url = f"http://{answer['dashboard']}"

    def _processes(self, names: tuple[str, ...]) -> list[tuple[str, int]]:
        """Titles and ids of the worker processes whose title begins with one of `names`."""
        return [
            (title, process.pid)
            for raylet in self._raylets
            for process in _children(raylet)
            if (title := _title(process)).startswith(names)
        ]


def _children(pid: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children()


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline()).strip()
    return ""


class _Nodes:
    """The cluster itself, in its own process."""

    def __init__(self, *, takes_jobs: bool) -> None:
        self._takes_jobs = takes_jobs
        # A driver of a submitted job looks there for the address of its cluster.
        self._folder = tempfile.mkdtemp(prefix="chaos", dir="/tmp")
        self.start()

    def start(self) -> None:
        """Starts all nodes."""
        for is_last in (False, True):  # Ray gives a node 30 s, too few on a busy machine
            self._cluster: Any = Cluster()
            try:
                self._add(
                    _system_config=SYSTEM_CONFIG,
                    include_dashboard=self._takes_jobs,
                    dashboard_port=free_port(),
                    temp_dir=self._folder,
                )
                write_ray_address(self._cluster.address, self._folder)
                for _ in range(NUM_RAYLETS - 1):
                    self._add()
            except Exception as error:
                self.shutdown()
                if is_last or "timed out during startup" not in str(error):
                    raise
            else:
                return

    def heal(self) -> None:
        """Without its head the cluster starts anew; another node is replaced."""
        if not _lives(self._cluster.head_node):
            self.shutdown()
            self.start()
            return
        for node in [node for node in self._cluster.worker_nodes if not _lives(node)]:
            self._cluster.remove_node(node, allow_graceful=False)
            self._add()

    def shutdown(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()

    def close(self) -> None:
        """Ends all nodes for good."""
        self.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def state(self) -> dict[str, Any]:
        """What the other process wants to know."""
        nodes = [self._cluster.head_node, *self._cluster.worker_nodes]
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        dashboard = self._cluster.head_node.webui_url
        return {"address": self._cluster.address, "raylets": raylets, "dashboard": dashboard}

    def _add(self, **arguments: Any) -> None:
        self._cluster.add_node(
            num_cpus=1,
            object_store_memory=OBJECT_STORE_BYTES,
            dashboard_agent_listen_port=free_port(),
            **arguments,
        )


def _lives(node: Any) -> bool:
    return node.all_processes["raylet"][0].process.poll() is None


def main() -> None:
    """Starts the cluster, heals it once per line of input, and ends it with the input."""
    nodes = _Nodes(takes_jobs=WITH_JOBS in sys.argv)
    print(json.dumps(nodes.state()), flush=True)
    for _ in sys.stdin:
        nodes.heal()
        print(json.dumps(nodes.state()), flush=True)
    nodes.close()


if __name__ == "__main__":
    main()
