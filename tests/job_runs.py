"""Runs job scripts as a user would: in processes of their own, in three ways."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

REPOSITORY = Path(__file__).parents[1]
TIMEOUT_S = 300


@dataclass(frozen=True)
class HeadNode:
    """A Ray head node started from the command line, as an operator would.

    Attributes:
        address: "host:port" for RAY_ADDRESS.
        dashboard_url: Where `ray job submit` goes.
        environment: What a client's process needs to be let in.
    """

    address: str
    dashboard_url: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Installation:
    """Where a head node runs from.

    Attributes:
        ray: The words that begin a command line of Ray.
        environment: The environment of its processes; a user's shell if None.
        folder: Where it is started.
        options: More of `ray start`.
    """

    ray: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    folder: Path = REPOSITORY
    options: tuple[str, ...] = ()


@contextmanager
def started_head(num_cpus: int, installation: Installation = Installation()) -> Iterator[HeadNode]:
    """A head node with token authentication, ended through its own command."""
    port, dashboard = free_port(), free_port()
    environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    process = subprocess.Popen(
        [*(installation.ray or (ray_command(),)), "start", "--head", "--block",
         f"--num-cpus={num_cpus}", f"--port={port}",
         "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
         f"--dashboard-port={dashboard}", f"--ray-client-server-port={free_port()}",
         f"--dashboard-agent-listen-port={free_port()}",
         f"--object-store-memory={300 * 2**20}", "--disable-usage-stats", *installation.options],
        cwd=installation.folder,
        env=(installation.environment or job_environment()) | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if "Ray runtime started" in line:
            break
    _await_port(dashboard)
    yield HeadNode(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", environment)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs(family, timeout=3)  # the head waits half a minute for them
    for child in alive:
        child.kill()
    process.communicate(timeout=60)


def write_config(path: Path, values: Mapping[str, Any]) -> Path:
    """Writes a job's YAML."""
    path.write_text(yaml.safe_dump(dict(values)))
    return path


def run_plain(job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python jobs/<job>.py …` with Ray inside the process."""
    return _run([sys.executable, f"jobs/{job}.py", *arguments], job_environment())


def run_on_cluster(head: HeadNode, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`RAY_ADDRESS=… python jobs/<job>.py …` against a running cluster."""
    environment = job_environment() | head.environment | {"RAY_ADDRESS": head.address}
    return _run([sys.executable, f"jobs/{job}.py", *arguments], environment)


def start_on_cluster(head: HeadNode, job: str, *arguments: str) -> subprocess.Popen[str]:
    """The same, not waited for; output and errors come together."""
    return subprocess.Popen(
        [sys.executable, f"jobs/{job}.py", *arguments],
        cwd=REPOSITORY,
        env=job_environment() | head.environment | {"RAY_ADDRESS": head.address},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run_submitted(head: HeadNode, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job submit --working-dir . -- python jobs/<job>.py …`."""
    return submit(head, "--working-dir", ".", "--", "python", f"jobs/{job}.py", *arguments)


def submit(head: HeadNode, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job submit …`."""
    return ray_job(head, "submit", *arguments)


def ray_job(head: HeadNode, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`ray job <command> …`, from the repository."""
    words = [ray_command(), "job", command, "--address", head.dashboard_url, *arguments]
    return _run(words, job_environment() | head.environment)


def job_environment() -> dict[str, str]:
    """A user's shell: this environment activated, nothing of a test's own Ray."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
    return inherited | {"PATH": path, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}


def ray_command() -> str:
    """The `ray` program of this environment."""
    return str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    """On a busy machine the dashboard comes up later than the rest of Ray."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"nobody listens on port {port}")


def _run(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
