"""A real S3-compatible server on this machine, for everything that reads or writes remotely."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import botocore.session
import pytest

from tests.job_runs import free_port

SECRET = "a-secret-that-must-not-be-stored"


@pytest.fixture(scope="session")
def endpoint_url() -> Iterator[str]:
    """A running S3 server with one bucket named "corpus"; credentials are in the environment."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": SECRET}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            try:
                _wait_until_up(url, server)
                _create_bucket(url)
                yield url
            finally:
                server.terminate()


def _wait_until_up(url: str, server: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(f"{url}/moto-api/", timeout=1).close()
            return
        except OSError:
            assert server.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline_s, "the S3 server does not come up"
            time.sleep(0.1)


def _create_bucket(url: str) -> None:
    session = botocore.session.get_session()
    client = session.create_client("s3", endpoint_url=url, region_name="us-east-1")
    client.create_bucket(Bucket="corpus")
