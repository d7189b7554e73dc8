"""A Ray head node that has Ray and our requirements, but nothing of ours.

Its Python is a virtual environment without a package of its own that looks into this one's; what
makes our packages importable here, the hook of the editable installation, does not work there.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.job_runs import HeadNode, Installation, job_environment, started_head


@dataclass(frozen=True)
class BareHead:
    """The head, and where it keeps what belongs to its session.

    Attributes:
        node: How to reach it.
        session: Ray's folder of this cluster's logs, sockets and unpacked uploads.
    """

    node: HeadNode
    session: Path


@contextmanager
def bare_head(num_cpus: int, stop_wait_s: int) -> Iterator[BareHead]:
    """Starts the head, with folders of its own that go with it.

    Args:
        num_cpus: Cores that it offers.
        stop_wait_s: Seconds that a job may take to end after it has been told to stop.
    """
    # Sockets lie below it, whose paths may have no more than 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="bare", dir="/tmp"))
    python = bare_python(root / "venv")
    installation = Installation(
        ray=(str(python), "-m", "ray.scripts.scripts"),
        environment=_shell(python) | {"RAY_JOB_STOP_WAIT_TIME_S": str(stop_wait_s)},
        folder=root,
        options=(f"--temp-dir={root / 'ray'}",),
    )
    try:
        with started_head(num_cpus, installation) as node:
            yield BareHead(node, root / "ray" / "session_latest")
    finally:
        shutil.rmtree(root, ignore_errors=True)


def bare_python(folder: Path) -> Path:
    """A Python with the packages of this one, but without the hooks that lie beside them."""
    venv.create(folder, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def _shell(python: Path) -> dict[str, str]:
    environment = job_environment() | {
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
        # What the runtime environment asks for is there; nothing may come from a network.
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "RAY_metrics_report_interval_ms": "2000",  # instead of ten seconds
    }
    environment.pop("PYTHONPATH", None)
    environment.pop("VIRTUAL_ENV", None)
    return environment
