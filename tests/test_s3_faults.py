"""The whole path over a bad network: the same table, nothing lost, nothing twice.

A proxy before a real S3 server injects 503 SlowDown, connection resets, cut replies and stalls.
`make s3-faults` does it with more videos, 10 % of the requests and stalls of 5 seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.sources import SourceConfig, list_videos
from pipeline.storage import StorageConfig, local_copy
from tests.faulty_proxy import FAULTS, FaultyProxy
from tests.job_runs import HeadNode, start_on_cluster, write_config
from tests.token_samples import corpus as sample_corpus
from tests.token_samples import flat, sample_lineage, unit_records, work_unit
from tests.video_factory import make_video

FULL_SIZE = os.environ.get("SWEETTOK_S3_FAULTS") == "full"
NUM_VIDEOS = 60 if FULL_SIZE else 12
STALL_S = 5.0 if FULL_SIZE else 0.3
FAULT_FRACTION = 0.1
JOB_TIMEOUT_S = 1200 if FULL_SIZE else 300


def storage_at(url: str) -> StorageConfig:
    return StorageConfig(endpoint_url=url, region="us-east-1")


def new_root() -> str:
    return f"s3://corpus/{uuid.uuid4().hex}/tokens"


@pytest.fixture
def proxy(endpoint_url: str) -> Iterator[FaultyProxy]:
    """A proxy that forwards everything until a test asks for a fault."""
    with FaultyProxy(endpoint_url) as proxy:
        yield proxy


# --- single faults ----------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["tokens/_delta_log/", "_quarantine/_delta_log/"])
def test_a_commit_whose_reply_is_lost_counts_once(proxy: FaultyProxy, table: str) -> None:
    """The server has done it, the writer hears of a reset: neither a duplicate nor a conflict."""
    root = new_root()
    storage = storage_at(proxy.url)
    committer = Committer(
        TokenDataset.create_or_open(root, sample_lineage(), storage=storage), "run"
    )
    units = sample_corpus(8)
    for record in flat(units.values()):
        committer.add(record)
    proxy.cut_next("PUT", f"{table}00000000000000000001.json")
    summary = committer.close()
    assert proxy.counts()["cut_reply"] == 1
    assert summary == CommitSummary(num_videos=6, num_clips=12, num_quarantined=2, num_commits=1)
    dataset = TokenDataset.open(root, storage=storage)
    assert (dataset.version, dataset.quarantined.version) == (1, 1)
    clip_ids = dataset.rows(["clip_id"]).read_all()["clip_id"].to_pylist()
    assert len(clip_ids) == len(set(clip_ids)) == 12


def test_a_lost_reply_and_a_rival_between_the_attempts(proxy: FaultyProxy) -> None:
    """The rival's version comes after the commit whose reply was lost: both are found."""
    root = new_root()
    storage = storage_at(proxy.url)
    committers = [
        Committer(
            TokenDataset.create_or_open(root, sample_lineage(), storage=storage),
            f"run-{number}",
            CommitConfig(every_clips=1),
        )
        for number in range(2)
    ]
    for name in ("a", "b", "c"):
        proxy.cut_next("PUT", "tokens/_delta_log/")
        for committer in committers:
            for record in unit_records(work_unit(name), 2):
                committer.add(record)
    summaries = [committer.close() for committer in committers]
    assert [summary.num_videos for summary in summaries] == [3, 0]
    assert [summary.num_skipped for summary in summaries] == [0, 3]
    assert TokenDataset.open(root, storage=storage).num_clips() == 6
    assert proxy.counts()["cut_reply"] == 3


def test_reading_survives_every_fault(endpoint_url: str, tmp_path: Path) -> None:
    """Listing and downloading through a proxy that spoils every third request."""
    video = make_video(tmp_path / "a.mp4", num_frames=30)
    put_files(endpoint_url, {"corpus/reading/a.mp4": video})
    with FaultyProxy(endpoint_url, fault_fraction=0.3, stall_s=0.1, seed=3) as proxy:
        storage = StorageConfig(
            endpoint_url=proxy.url, region="us-east-1", attempts=8, backoff_s=0.05
        )
        for _ in range(8):
            config = SourceConfig(uris=("s3://corpus/reading",), storage=storage)
            (listed,) = list_videos(config)
            with local_copy(listed.uri, storage, max_bytes=2**20) as path:
                assert Path(path).read_bytes() == video.read_bytes()
        counts = proxy.counts()
    assert all(counts.get(fault) for fault in FAULTS), counts


# --- the whole path ---------------------------------------------------------------------------


def put_files(endpoint_url: str, files: dict[str, Path]) -> None:
    store = fsspec.filesystem("s3", client_kwargs={"endpoint_url": endpoint_url})
    for target, source in files.items():
        store.put_file(str(source), target)


def job_values(url: str, root: str, videos: str, tokenizer: str) -> dict[str, Any]:
    storage = {"endpoint_url": url, "region": "us-east-1"}
    return {
        "source": {"uris": [videos], "storage": storage},
        "tokenizer": tokenizer,
        "dataset": {"uri": root, "storage": storage},
        "encode": {"batch_size": 4},
        "commit": {"every_clips": 6, "every_s": 2},
    }


def finished(job: subprocess.Popen[str]) -> str:
    output, _ = job.communicate(timeout=JOB_TIMEOUT_S)
    assert job.returncode == 0, output
    return output


def rows_of(root: str, storage: StorageConfig) -> tuple[list[Any], list[Any]]:
    dataset = TokenDataset.open(root, storage=storage)
    clips = dataset.rows().read_all().drop_columns(["run_id"]).sort_by("clip_id")
    quarantine = dataset.quarantine().drop_columns(["run_id", "quarantined_at"])
    return clips.to_pylist(), quarantine.to_pylist()


@pytest.mark.ray
@pytest.mark.jobs
@pytest.mark.timeout(3600)
def test_two_jobs_at_once_through_a_bad_network_give_the_table_of_one_on_a_good_one(
    endpoint_url: str, head_node: HeadNode, tokenizer_directory: str, tmp_path: Path
) -> None:
    """Inputs and output on S3; both jobs tokenize the same videos into the same dataset."""
    folder = f"corpus/{uuid.uuid4().hex}"
    text = tmp_path / "text.mp4"
    text.write_text("this is no video\n" * 50)
    files = {f"{folder}/text.mp4": text}
    for number in range(NUM_VIDEOS):
        name = f"{number:03}.mp4"
        files[f"{folder}/{name}"] = make_video(tmp_path / name, num_frames=30, fps=10 + number)
    put_files(endpoint_url, files)

    def config(name: str, url: str, root: str) -> Path:
        values = job_values(url, root, f"s3://{folder}", tokenizer_directory)
        return write_config(tmp_path / f"{name}.yaml", values)

    def start_job(config: Path) -> subprocess.Popen[str]:
        return start_on_cluster(head_node, "tokenize_corpus", "--config", str(config))

    good, bad = new_root(), new_root()
    finished(start_job(config("good", endpoint_url, good)))
    started_s = time.monotonic()
    with FaultyProxy(endpoint_url, fault_fraction=FAULT_FRACTION, stall_s=STALL_S) as proxy:
        jobs = [start_job(config(f"bad-{number}", proxy.url, bad)) for number in range(2)]
        outputs = [finished(job) for job in jobs]
        counts = proxy.counts()
    print(json.dumps(counts | {"duration_s": round(time.monotonic() - started_s, 1)}))
    print(*outputs, sep="\n")
    storage = storage_at(endpoint_url)
    expected, found = rows_of(good, storage), rows_of(bad, storage)
    assert len(expected[0]) == 3 * NUM_VIDEOS
    assert found == expected
    assert sum(counts[fault] for fault in FAULTS if fault in counts) >= 0.05 * counts["requests"]
    again = finished(start_job(config("again", endpoint_url, bad)))
    assert f"tokenized 0 + quarantined 0 + unchanged {NUM_VIDEOS + 1}" in again
