"""One refresh of a dataset at a time: real files, a real store, real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.conditional_files import ConditionalFiles, conditional_files
from pipeline.dataset.lease import FOLDER, Holder, LeaseConfig, held_lease
from pipeline.errors import DatasetBusyError, DatasetError
from pipeline.termination import terminated_like_interrupted
from sweettok.errors import ConfigError
from tests.dataset_places import Place, local_place, s3_place
from tests.job_runs import REPOSITORY, job_environment

QUICK = LeaseConfig(heartbeat_s=0.05, expires_after_s=60)
DEATH_S = 6.0

HOLD = """
import sys, time
from pipeline.dataset.lease import LeaseConfig, held_lease
from pipeline.storage import StorageConfig
config = LeaseConfig(heartbeat_s=0.05, expires_after_s=float(sys.argv[2]))
with held_lease(sys.argv[1], StorageConfig(), config):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return local_place(tmp_path)
    return s3_place(request.getfixturevalue("endpoint_url"))


def files_of(place: Place) -> ConditionalFiles:
    return conditional_files(f"{place.uri}/{FOLDER}", place.storage)


def holder_of(place: Place) -> Holder:
    files = files_of(place)
    content = files.read(files.names()[-1])
    assert content is not None
    return Holder.from_json(content, place.uri)


def test_of_many_that_create_a_file_one_has_created_it(place: Place) -> None:
    files = files_of(place)
    contents = [f"writer {index}".encode() for index in range(16)]
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda content: files.create("1.json", content), contents))
    assert created.count(True) == 1
    assert files.read("1.json") == contents[created.index(True)]
    assert files.names() == ["1.json"]
    files.replace("1.json", b"changed")
    assert files.read("1.json") == b"changed"
    files.delete("1.json")
    files.delete("1.json")
    assert (files.read("1.json"), files.names()) == (None, [])


def test_a_held_dataset_is_refused_with_who_has_it_and_free_afterwards(place: Place) -> None:
    with held_lease(place.uri, place.storage, QUICK):
        with (
            pytest.raises(DatasetBusyError) as caught,
            held_lease(place.uri, place.storage, QUICK),
        ):
            pytest.fail("two hold it")
        assert f"by {holder_of(place).owner} since " in str(caught.value)
        assert "\n" not in str(caught.value)
        signs_of_life = {holder_of(place).heard_at_s}
        while len(signs_of_life) < 4:
            time.sleep(QUICK.heartbeat_s)
            signs_of_life.add(holder_of(place).heard_at_s)
    assert holder_of(place).is_given_back
    with held_lease(place.uri, place.storage, QUICK):
        assert not holder_of(place).is_given_back
    assert files_of(place).names() == ["00000002.json"]


def test_of_many_that_begin_together_one_gets_in(place: Place) -> None:
    """Each stays until all have tried, so that nobody comes in after somebody else's end."""
    num_tries, all_tried = 8, threading.Event()
    tried = threading.Semaphore(0)

    def attempt(_: int) -> bool:
        try:
            with held_lease(place.uri, place.storage, QUICK):
                tried.release()
                return all_tried.wait(30)
        except DatasetBusyError:
            tried.release()
            return False

    with ThreadPoolExecutor(num_tries) as pool:
        results = pool.map(attempt, range(num_tries))
        for _ in range(num_tries):
            assert tried.acquire(timeout=30)
        all_tried.set()
        assert sum(results) == 1


def test_after_kill_9_the_next_one_takes_over_once_the_silence_is_long_enough(
    tmp_path: Path,
) -> None:
    place = local_place(tmp_path)
    killed = subprocess.Popen(
        [sys.executable, "-c", HOLD, place.uri, str(DEATH_S)],
        cwd=REPOSITORY, env=job_environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert killed.stdout is not None
    assert killed.stdout.readline() == "held\n"
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    with pytest.raises(DatasetBusyError, match=f"process {killed.pid} since"):
        held_lease(place.uri, place.storage, QUICK).__enter__()
    time.sleep(DEATH_S)
    with held_lease(place.uri, place.storage, QUICK):
        assert holder_of(place).owner.endswith(f"process {os.getpid()}")


@pytest.fixture(params=["terminal", "background"])
def signals(request: pytest.FixtureRequest) -> Iterator[None]:
    """As a job hears them: started at a terminal, or by a script that goes on beside it."""
    is_heard = request.param == "terminal"
    handler = signal.default_int_handler if is_heard else signal.SIG_IGN
    before = signal.signal(signal.SIGINT, handler)
    with terminated_like_interrupted():
        yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("signals")
def test_a_holder_that_was_taken_over_is_interrupted_and_says_so(place: Place) -> None:
    """As after a stop of its machine: somebody else has the next number."""
    other = Holder("elsewhere", "n", "2026-01-01", time.time(), 300)
    interrupted = threading.Event()

    def hold() -> None:
        with held_lease(place.uri, place.storage, QUICK):
            try:
                assert files_of(place).create("00000002.json", other.to_json())
                time.sleep(30)
            except KeyboardInterrupt:
                interrupted.set()
                raise

    with pytest.raises(DatasetBusyError, match="another refresh has taken over"):
        hold()
    assert interrupted.is_set()
    assert holder_of(place) == other


def test_a_slow_beginner_finds_a_later_number_and_leaves(tmp_path: Path) -> None:
    """It looked before the others came, and creates its file when theirs has been cleared away."""
    place = local_place(tmp_path)
    config = QUICK

    class Slow:
        """Files whose owner sleeps between its first look and what it does then."""

        def __init__(self, files: ConditionalFiles) -> None:
            self._files = files
            self._has_slept = False

        def names(self) -> list[str]:
            names = self._files.names()
            if not self._has_slept:
                self._has_slept = True
                for _ in range(2):
                    with held_lease(place.uri, place.storage, config):
                        pass
            return names

        def __getattr__(self, name: str) -> object:
            return getattr(self._files, name)

    from pipeline.dataset.lease import _Lease

    lease = _Lease(place.uri, place.storage, config)
    lease._files = Slow(lease._files)  # type: ignore[assignment]
    with pytest.raises(DatasetBusyError, match="another refresh began meanwhile"):
        lease.take()
    assert files_of(place).names() == ["00000002.json"]


def test_what_is_no_lease_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    place = local_place(tmp_path)
    for content in (b"", b"[1]", b"{}", json.dumps({"owner": "me"}).encode()):
        files_of(place).replace("00000007.json", content)
        with pytest.raises(DatasetError, match=r"00000007\.json is no lease.*delete the file"):
            held_lease(place.uri, place.storage, QUICK).__enter__()


def test_a_store_that_does_not_answer_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="choose a place where this user may write"):
        held_lease(str(tmp_path / "file"), local_place(tmp_path).storage, QUICK).__enter__()


def test_a_silence_shorter_than_the_heartbeat_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3 times heartbeat_s"):
        LeaseConfig.from_mapping({"heartbeat_s": 20, "expires_after_s": 50})
