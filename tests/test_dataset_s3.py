"""The dataset on an S3 store: a real server process, path-style addresses, conditional writes."""

from __future__ import annotations

import multiprocessing
import os
import uuid
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import botocore.session
import polars as pl
import pytest

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.dataset.storage_options import delta_storage_options
from pipeline.errors import DatasetError, LineageError
from pipeline.planning import plan_units
from pipeline.storage import StorageConfig
from tests.job_runs import free_port
from tests.s3_server import SECRET
from tests.token_samples import listed_video, quarantined, sample_lineage, unit_records, work_unit


@pytest.fixture
def storage(endpoint_url: str) -> StorageConfig:
    return StorageConfig(endpoint_url=endpoint_url, region="us-east-1")


@pytest.fixture
def root() -> str:
    return f"s3://corpus/{uuid.uuid4().hex}/tokens"


def commit_videos(
    root: str, storage: StorageConfig, names: list[str], config: CommitConfig | None = None
) -> CommitSummary:
    dataset = TokenDataset.create_or_open(root, sample_lineage(), storage=storage)
    committer = Committer(dataset, "run", config)
    for name in names:
        for record in unit_records(work_unit(name), 2):
            committer.add(record)
    return committer.close()


def test_a_dataset_lives_on_s3(root: str, storage: StorageConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no Delta table"):
        TokenDataset.open(root, storage=storage)
    commit_videos(f"{root}/", storage, ["a", "b"])
    dataset = TokenDataset.create_or_open(root, sample_lineage(), storage=storage)
    committer = Committer(dataset, "second")
    for record in [*unit_records(work_unit("a", "2"), 3), quarantined(work_unit("c"))]:
        committer.add(record)
    assert committer.close().num_replaced == 1

    opened = TokenDataset.open(root, storage=storage)
    assert opened.num_clips() == opened.rows().read_all().num_rows == 5
    assert opened.quarantine()["video_uri"].to_pylist() == ["file:///videos/c"]
    assert TokenDataset.open(root, version=1, storage=storage).num_clips() == 4
    units, counts = plan_units(
        [listed_video("a", "2"), listed_video("b"), listed_video("c")], opened.finished_units()
    )
    assert (len(units), counts.num_tokenized, counts.num_quarantined) == (0, 2, 1)
    with pytest.raises(LineageError, match="precision"):
        TokenDataset.create_or_open(root, sample_lineage(precision="bf16"), storage=storage)
    frame = pl.read_delta(root, storage_options=delta_storage_options(storage))
    assert sorted(frame["clip_id"]) == sorted(opened.rows(["clip_id"]).read_all()[0].to_pylist())


def test_the_tokenizer_and_run_files_travel_through_s3(
    root: str, storage: StorageConfig, tmp_path: Path
) -> None:
    source = tmp_path / "tokenizer"
    source.mkdir()
    weights = os.urandom(12 * 2**20)  # several upload parts
    (source / "model.safetensors").write_bytes(weights)
    dataset = TokenDataset.create_or_open(root, sample_lineage(), storage=storage)
    dataset.store_tokenizer(source)
    dataset.write_run_file("run", "config.yaml", "seed: 1\n")
    opened = TokenDataset.open(root, storage=storage)
    fetched = opened.tokenizer_files(tmp_path / "cache")
    assert (fetched / "model.safetensors").read_bytes() == weights
    assert opened.read_run_file("run", "config.yaml") == "seed: 1\n"


def test_nothing_that_is_stored_holds_the_secret(root: str, storage: StorageConfig) -> None:
    commit_videos(root, storage, ["a"])
    session = botocore.session.get_session()
    client = session.create_client("s3", endpoint_url=storage.endpoint_url, region_name="us-east-1")
    prefix = root.removeprefix("s3://corpus/")
    keys = [
        item["Key"] for item in client.list_objects_v2(Bucket="corpus", Prefix=prefix)["Contents"]
    ]
    assert len(keys) >= 4
    for key in keys:
        content = client.get_object(Bucket="corpus", Key=key)["Body"].read()
        assert SECRET.encode() not in content
        assert b"tester" not in content


def test_a_store_that_does_not_answer_is_one_readable_error(root: str) -> None:
    nowhere = StorageConfig(endpoint_url=f"http://127.0.0.1:{free_port()}", region="us-east-1")
    with pytest.raises(DatasetError) as caught:
        TokenDataset.open(root, storage=nowhere)
    assert root in str(caught.value)
    assert "\n" not in str(caught.value)


def write_at_the_same_time(
    root: str, storage: StorageConfig, names: list[str], start: Barrier,
    summaries: SimpleQueue[CommitSummary],
) -> None:  # fmt: skip
    """A writer process: small commits of `names`, begun when every writer is up."""
    start.wait(timeout=60)
    config = CommitConfig(every_clips=4, target_file_bytes=100)
    summaries.put(commit_videos(root, storage, names, config))


def test_two_processes_on_s3_commit_each_unit_once(root: str, storage: StorageConfig) -> None:
    context = multiprocessing.get_context("spawn")
    start, queue = context.Barrier(2), context.SimpleQueue()
    names = [f"{index:02}" for index in range(12)]
    writers = [
        context.Process(target=write_at_the_same_time, args=(root, storage, order, start, queue))
        for order in (names, names[::-1])
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=120)
        assert writer.exitcode == 0
    summaries = [queue.get(), queue.get()]
    clip_ids = TokenDataset.open(root, storage=storage).rows(["clip_id"]).read_all()[0].to_pylist()
    assert len(clip_ids) == len(set(clip_ids)) == 24
    assert sum(summary.num_videos for summary in summaries) == 12
    assert all(summary.num_commits >= 1 for summary in summaries)
