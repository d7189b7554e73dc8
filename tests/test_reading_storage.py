"""Where the reader reads from: damaged files, a local cache, an S3 store on a bad day."""

from __future__ import annotations

import fcntl
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.errors import DatasetError
from pipeline.reading import (
    LoaderConfig,
    OrderConfig,
    RowGroupCache,
    TokenBatch,
    TokenLoader,
    TokenReader,
)
from pipeline.storage import StorageConfig
from tests.faulty_proxy import FAULTS, FaultyProxy
from tests.token_samples import commit_all, sample_lineage, unit_records, work_unit

ONCE = StorageConfig(attempts=1)
NUM_VIDEOS = 8


def rows(reader: TokenReader, *, shuffle: bool = True) -> list[tuple[str, list[int], list[int]]]:
    """An epoch's clips: id, spatial and temporal tokens."""
    config = LoaderConfig(batch_size=4, order=OrderConfig(shuffle=shuffle, window_samples=8))
    return [row for batch in TokenLoader(reader, config) for row in _rows(batch)]


def _rows(batch: TokenBatch) -> list[tuple[str, list[int], list[int]]]:
    columns = (batch.listed("clip_id"), batch.spatial.tolist(), batch.temporal.tolist())
    return list(zip(*columns, strict=True))


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos of three clips, in eight data files."""
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    for number in range(NUM_VIDEOS):
        commit_all(root, unit_records(work_unit(f"{number}.mp4"), 3))
    return root


# --- damaged files ----------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["missing", "flipped", "cut"])
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, fault: str) -> None:
    root = tmp_path / "tokens"
    commit_all(root, unit_records(work_unit("a.mp4"), 30))
    reader = TokenReader.open(root, columns=["clip_id"])
    (path,) = root.glob("*.parquet")
    content = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "flipped":
        content[middle_of_tokens(path)] ^= 0x10
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=path.name):
        rows(TokenReader.open(root) if fault == "cut" else reader)


def middle_of_tokens(path: Path) -> int:
    """A byte in the middle of the spatial tokens' pages."""
    group = pq.read_metadata(path).row_group(0)
    (column,) = [
        group.column(number)
        for number in range(group.num_columns)
        if group.column(number).path_in_schema.startswith("spatial_tokens")
    ]
    return column.data_page_offset + column.total_compressed_size // 2


def test_a_flipped_bit_anywhere_never_gives_other_tokens(tmp_path: Path) -> None:
    """Either nothing that is read has changed, or there is one error that names the file."""
    root = tmp_path / "tokens"
    commit_all(root, unit_records(work_unit("a.mp4"), 30))
    (path,) = root.glob("*.parquet")
    whole = path.read_bytes()
    expected = [row[1:] for row in rows(TokenReader.open(root, columns=["clip_id"]))]
    chosen = random.Random(0)
    messages = []
    for _ in range(300):
        content = bytearray(whole)
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        path.write_bytes(content)
        try:
            reader = TokenReader.open(root, columns=["clip_id"], storage=ONCE)
            assert [row[1:] for row in rows(reader)] == expected
        except DatasetError as error:
            messages.append(str(error))
    assert len(messages) > 30
    assert all(path.name in message for message in messages)


def test_ids_that_no_codebook_has_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    commit_all(root, unit_records(work_unit("a.mp4"), 3))
    (path,) = root.glob("*.parquet")
    table = pq.read_table(path)
    spatial = [[1, 2, 3, 4, 5, 500]] * 3
    column = table.schema.get_field_index("spatial_tokens")
    kind = table.schema.field(column)
    pq.write_table(table.set_column(column, kind, pa.array(spatial, kind.type)), path)
    with pytest.raises(DatasetError, match=rf"{path.name}: ids are in \[1, 500\]"):
        rows(TokenReader.open(root, columns=["clip_id"]))


# --- the cache --------------------------------------------------------------------------------


def held_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.arrow"))


def test_a_cache_gives_the_same_and_stays_below_its_limit(tokens: Path, tmp_path: Path) -> None:
    cache = RowGroupCache(str(tmp_path / "cache"), max_bytes=6_000)
    cached = TokenReader.open(tokens, columns=["clip_id"], cache=cache)
    plain = TokenReader.open(tokens, columns=["clip_id"])
    for _ in range(2):
        assert rows(cached) == rows(plain)
        assert 0 < held_bytes(tmp_path / "cache") <= 6_000
    roomy = RowGroupCache(str(tmp_path / "roomy"))
    again = TokenReader.open(tokens, columns=["clip_id"], cache=roomy)
    assert rows(again) == rows(plain)
    assert held_bytes(tmp_path / "roomy") > 6_000, "the limit above was one"
    moved = tokens.rename(tokens.with_name("moved"))
    try:
        assert len(rows(again)) == again.num_samples
    finally:
        moved.rename(tokens)


def test_a_cache_that_many_write_to_stays_below_its_limit(tmp_path: Path) -> None:
    limit = 40_000
    table = pa.table({"values": list(range(500))})
    largest = []

    def fill(first: int) -> None:
        cache = RowGroupCache(str(tmp_path), limit)
        for number in range(first, first + 40):
            assert cache.get(f"{number:08}", lambda: table).equals(table)
            with (tmp_path / ".held-bytes").open() as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # nobody adds or removes while we look
                largest.append(held_bytes(tmp_path))

    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(fill, range(0, 400, 100)))) == 4
    assert len(largest) == 160
    assert 2 * table.nbytes < max(largest) <= limit
    # A lost or torn record of what is held is made good by looking.
    (tmp_path / ".held-bytes").write_bytes(b"12")
    fill(1_000)
    assert max(largest) <= limit
    too_large = pa.table({"values": list(range(6_000))})
    assert RowGroupCache(str(tmp_path), limit).get("large", lambda: too_large).equals(too_large)
    assert not (tmp_path / "large.arrow").exists()


# --- a store ----------------------------------------------------------------------------------


def remote_tokens(storage: StorageConfig) -> str:
    """The eight videos on S3; returns the root."""
    root = f"s3://corpus/{uuid.uuid4().hex}/tokens"
    dataset = TokenDataset.create_or_open(root, sample_lineage(), storage=storage)
    for number in range(NUM_VIDEOS):
        committer = Committer(dataset, f"run-{number}", CommitConfig())
        for record in unit_records(work_unit(f"{number}.mp4"), 3):
            committer.add(record)
        committer.close()
    return root


def storage_at(url: str, attempts: int) -> StorageConfig:
    return StorageConfig(endpoint_url=url, region="us-east-1", attempts=attempts, backoff_s=0.05)


def test_a_store_on_a_bad_day_gives_every_clip(
    endpoint_url: str, tokens: Path, tmp_path: Path
) -> None:
    expected = sorted(rows(TokenReader.open(tokens, columns=["clip_id"])))
    root = remote_tokens(storage_at(endpoint_url, 3))
    cache = RowGroupCache(str(tmp_path / "cache"))
    with FaultyProxy(endpoint_url, fault_fraction=0.3, stall_s=0.1, seed=1) as proxy:
        storage = storage_at(proxy.url, 8)
        for number in range(4):
            order = rows(TokenReader.open(root, columns=["clip_id"], storage=storage))
            assert sorted(order) == expected, f"round {number}"
        assert all(proxy.counts().get(fault) for fault in FAULTS), proxy.counts()
        kept = TokenReader.open(root, columns=["clip_id"], storage=storage, cache=cache)
        assert sorted(rows(kept)) == expected
        before = proxy.counts()["requests"]
        assert sorted(rows(kept)) == expected
        assert proxy.counts()["requests"] == before, "the second epoch comes from the disk"


def test_a_file_that_is_gone_from_the_store_is_named(endpoint_url: str) -> None:
    storage = storage_at(endpoint_url, 1)
    root = remote_tokens(storage)
    dataset = TokenDataset.open(root, storage=storage)
    reader = TokenReader.open(root, columns=["clip_id"], storage=storage)
    (gone, *_) = sorted(dataset.clips.file_sizes())
    dataset.clips.filesystem.delete_file(gone)
    with pytest.raises(DatasetError, match=f"{gone}: is not there"):
        rows(TokenReader.open(root, columns=["clip_id"], storage=storage))
    with pytest.raises(DatasetError, match=gone):
        rows(reader)
