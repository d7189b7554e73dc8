"""Joining a Ray cluster that asks for a token, as an operator's cluster does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.job_runs import REPOSITORY, HeadNode, job_environment

JOIN = """
import sys
from pipeline.cluster import ClusterConfig, connect
from pipeline.errors import PipelineError
try:
    connect(ClusterConfig(address=sys.argv[1]))
except PipelineError as error:
    print(error)
"""


def join(address: str, home: Path, **environment: str) -> str:
    """What a process says that tries to join; it finds no token but in `environment`."""
    result = subprocess.run(
        [sys.executable, "-c", JOIN, address],
        cwd=REPOSITORY, env=job_environment() | {"HOME": str(home)} | environment,
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return result.stdout


def test_a_refused_token_is_not_called_a_missing_cluster(
    head_node: HeadNode, tmp_path: Path
) -> None:
    address = head_node.address
    answers = [
        join(address, tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 32),
        join(address, tmp_path, RAY_AUTH_MODE="token"),
    ]
    for answer in answers:
        assert f"{address!r} takes a token, and this process has none or another" in answer
        assert "RAY_AUTH_MODE=token" in answer
        assert "RAY_AUTH_TOKEN" in answer
        assert answer.count("\n") == 1
    assert join(address, tmp_path, **head_node.environment) == ""
