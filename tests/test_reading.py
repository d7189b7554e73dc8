"""The reader's loaders: exact shares, exact resume, elastic ranks, filters, mixtures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.errors import DatasetError
from pipeline.reading import (
    LoaderConfig,
    Mixture,
    OrderConfig,
    Positions,
    TokenBatch,
    TokenIterable,
    TokenLoader,
    TokenReader,
)
from tests.token_samples import commit_all, sample_lineage, unit_records, work_unit

NUM_VIDEOS = 24
COLUMNS = ["clip_id", "clip_index", "label"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 videos of one to five clips in a dozen data files, two labels."""
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    for number in range(NUM_VIDEOS):
        unit = work_unit(f"{number:02}.mp4", label="cat" if number % 3 else "dog")
        commit_all(root, unit_records(unit, 1 + number % 5))
    return root


@pytest.fixture(scope="module")
def reader(tokens: Path) -> TokenReader:
    return TokenReader.open(tokens, columns=COLUMNS)


def small(**changes: Any) -> LoaderConfig:
    order = {"seed": 3, "window_samples": 8}
    return LoaderConfig(batch_size=4, order=OrderConfig(**(order | changes)))


def clips(batches: Sequence[TokenBatch]) -> list[str]:
    return [clip for batch in batches for clip in batch.columns["clip_id"]]


def everything(root: Path) -> set[str]:
    clip_ids = TokenDataset.open(root).arrow_dataset().to_table()["clip_id"].to_pylist()
    assert len(clip_ids) == len(set(clip_ids))
    return set(clip_ids)


@given(
    old_size=st.integers(1, 4),
    new_size=st.integers(1, 5),
    stops=st.lists(st.integers(0, 20), min_size=4, max_size=4),
    shuffle=st.booleans(),
    window=st.sampled_from([1, 8, 10_000]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_ranks_that_stop_anywhere_leave_exactly_what_they_have_not_read(
    tokens: Path,
    reader: TokenReader,
    old_size: int,
    new_size: int,
    stops: list[int],
    shuffle: bool,
    window: int,
) -> None:
    config = small(shuffle=shuffle, window_samples=window)
    states, consumed = [], []
    for rank in range(old_size):
        loader = TokenLoader(reader, config, rank=rank, world_size=old_size)
        for _, batch in zip(range(stops[rank]), loader, strict=False):
            consumed += clips([batch])
        states.append(loader.state_dict())
    remaining, epochs = [], set()
    for rank in range(new_size):
        loader = TokenLoader(reader, config, rank=rank, world_size=new_size)
        loader.load_state_dict(random.Random(0).sample(states, len(states)))
        epochs.add(loader.epoch)
        remaining += clips(list(loader))
    if epochs == {1}:  # all ranks had come to the end of the first epoch
        assert sorted(consumed) == sorted(remaining) == sorted(everything(tokens))
    else:
        assert epochs == {0}
        assert sorted(consumed + remaining) == sorted(everything(tokens))


def stopped_at(reader: TokenReader, config: LoaderConfig, steps: Sequence[int]) -> list[Any]:
    """The states of ranks that have taken so many batches, over the ends of epochs."""
    states = []
    for rank, count in enumerate(steps):
        loader = TokenLoader(reader, config, rank=rank, world_size=len(steps))
        left = count
        while left:
            for _, _ in zip(range(left), loader, strict=False):
                left -= 1
        states.append(loader.state_dict())
    return states


def test_ranks_stopped_at_one_step_may_stand_in_two_epochs(reader: TokenReader) -> None:
    """70 clips on 3 ranks are 23, 23 and 24: batches of 23 give one rank a step more."""
    config = LoaderConfig(batch_size=23, order=OrderConfig(seed=3))
    states = stopped_at(reader, config, [2, 2, 2])
    assert [state["epoch"] for state in states] == [1, 1, 0]
    rest = []
    for rank in range(2):
        loader = TokenLoader(reader, config, rank=rank, world_size=2)
        loader.load_state_dict(states)
        assert loader.epoch == 1
        rest += clips(list(loader))
    second = TokenLoader(reader, config)
    second.set_epoch(1)
    order = clips(list(second))
    assert sorted(rest) == sorted(order[46:])
    with pytest.raises(DatasetError, match=r"ranks \[0\] have begun epoch 1, ranks \[1, 2\] have"):
        loader.load_state_dict(stopped_at(reader, config, [2, 0, 1]))


def test_a_resumed_run_with_other_batches_gives_full_ones(reader: TokenReader) -> None:
    states = stopped_at(reader, small(), [3, 3])
    config = small().model_copy(update={"batch_size": 5, "drop_last": True})
    counts = []
    for rank in range(2):
        loader = TokenLoader(reader, config, rank=rank, world_size=2)
        loader.load_state_dict(states[rank])
        counts.append([len(batch) for batch in loader])
    assert counts == [[5] * 4] * 2, "35 clips a rank, 12 consumed"


@pytest.mark.parametrize("stop", [0, 1, 5, 17])
def test_a_resumed_rank_goes_on_at_the_very_next_sample(reader: TokenReader, stop: int) -> None:
    def loader() -> TokenLoader:
        return TokenLoader(reader, small(), rank=1, world_size=2)

    undisturbed = loader()
    whole = [clips(list(undisturbed)), clips(list(undisturbed))]
    assert undisturbed.epoch == 2
    assert whole[0] != whole[1], "every epoch has an order of its own"
    first = loader()
    seen = []
    for _ in range(2):
        for batch in first:
            seen.append(batch)
            if len(seen) > stop:
                break
        if len(seen) > stop:
            break
    second = loader()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest = [batch for _ in range(2 - second.epoch) for batch in second]
    assert clips(seen) + clips(rest) == whole[0] + whole[1]


def test_one_seed_gives_one_order_and_another_another(reader: TokenReader) -> None:
    def order(**changes: Any) -> list[str]:
        return clips(list(TokenLoader(reader, small(**changes))))

    assert order() == order()
    assert order(seed=4) != order()
    assert sorted(order(seed=4)) == sorted(order())
    assert order(shuffle=False) == order(shuffle=False, window_samples=1000)


def test_batches_hold_the_rows_they_name(tokens: Path, reader: TokenReader) -> None:
    rows = {
        row["clip_id"]: row
        for row in TokenDataset.open(tokens).arrow_dataset().to_table().to_pylist()
    }
    num_batches = 0
    for batch in TokenLoader(reader, small()):
        num_batches += 1
        assert batch.spatial.dtype == torch.int64
        assert isinstance(batch.columns["clip_index"], torch.Tensor)
        for number, clip in enumerate(batch.columns["clip_id"]):
            assert batch.spatial[number].tolist() == rows[clip]["spatial_tokens"]
            assert batch.temporal[number].tolist() == rows[clip]["temporal_tokens"]
            assert batch.columns["label"][number] == rows[clip]["label"]
            assert int(batch.columns["clip_index"][number]) == rows[clip]["clip_index"]
    assert num_batches == len(TokenLoader(reader, small())) > 10


def test_filters_leave_what_they_should_and_read_nothing_else(tokens: Path) -> None:
    dogs = TokenReader.open(tokens, columns=["clip_id", "label"], filters=[("label", "==", "dog")])
    found = list(TokenLoader(dogs, small()))
    assert {label for batch in found for label in batch.columns["label"]} == {"dog"}
    rows = TokenDataset.open(tokens).arrow_dataset().to_table()
    expected = {
        clip
        for clip, label in zip(rows["clip_id"].to_pylist(), rows["label"].to_pylist(), strict=True)
        if label == "dog"
    }
    assert set(clips(found)) == expected
    assert len(clips(found)) == len(expected)
    either = TokenReader.open(tokens, filters=[[("label", "==", "dog")], [("clip_index", "<", 1)]])
    assert either.num_samples > dogs.num_samples


def test_a_pinned_version_is_read_whatever_is_committed_later(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    commit_all(root, unit_records(work_unit("a.mp4"), 3))
    version = TokenDataset.open(root).version
    before = clips(list(TokenLoader(TokenReader.open(root, columns=["clip_id"]), small())))
    commit_all(root, unit_records(work_unit("a.mp4", version="2", label="new"), 2))
    pinned = TokenReader.open(root, version, columns=["clip_id"])
    assert clips(list(TokenLoader(pinned, small()))) == before
    latest = TokenReader.open(root, columns=["clip_id", "label"])
    assert latest.num_samples == 2
    with pytest.raises(DatasetError, match="another fingerprint"):
        TokenLoader(latest, small()).load_state_dict(TokenLoader(pinned, small()).state_dict())


def test_files_without_a_column_give_nulls(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    commit_all(root, unit_records(work_unit("a.mp4"), 1))
    commit_all(root, unit_records(work_unit("b.mp4", label="cat"), 1))
    batches = TokenLoader(TokenReader.open(root, columns=["label"]), small())
    assert sorted(str(value) for batch in batches for value in batch.columns["label"]) == [
        "None",
        "cat",
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_full_batches_are_equally_many_on_all_ranks(reader: TokenReader, world_size: int) -> None:
    config = small().model_copy(update={"drop_last": True})
    counts = set()
    for rank in range(world_size):
        loader = TokenLoader(reader, config, rank=rank, world_size=world_size)
        promised = len(loader)
        found = list(loader)
        assert all(len(batch) == config.batch_size for batch in found)
        counts.add((promised, len(found)))
    assert len(counts) == 1


def test_an_epoch_without_a_full_batch_is_refused(reader: TokenReader) -> None:
    config = small().model_copy(update={"batch_size": 40, "drop_last": True})
    assert len(TokenLoader(reader, config)) == 1
    with pytest.raises(DatasetError, match=r"70 samples over 2 ranks give no full batch of 40"):
        TokenLoader(reader, config, rank=0, world_size=2)


@pytest.mark.parametrize("num_workers", [0, 2, 3])
def test_worker_processes_of_a_data_loader_share_exactly(
    tokens: Path, reader: TokenReader, num_workers: int
) -> None:
    left = Positions.first(reader.num_samples).split(2)[1]
    data = torch.utils.data.DataLoader(
        TokenIterable(reader, small(), positions=left),
        batch_size=None,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
    )
    found = list(data)
    read = Positions.of(pair for batch in found for pair in batch.positions.intervals)
    assert read == left
    assert len(set(clips(found))) == len(left)


def test_states_that_do_not_fit_are_refused(reader: TokenReader) -> None:
    def state(rank: int, world_size: int, **changes: Any) -> dict[str, Any]:
        return TokenLoader(reader, small(**changes), rank=rank, world_size=world_size).state_dict()

    loader = TokenLoader(reader, small(), rank=0, world_size=2)
    for states, message in [
        (state(1, 2), "rank 1 of 2, this loader is rank 0 of 2"),
        ([state(0, 3), state(2, 3)], r"ranks \[0, 2\] were given, there were 3"),
        (state(0, 2, seed=9), "another seed: 9 there, 3 here"),
        ([], "no state"),
        ({"left": 1}, "no state of a token loader"),
    ]:
        with pytest.raises(DatasetError, match=message):
            loader.load_state_dict(states)


def test_what_cannot_be_opened_is_said_clearly(tokens: Path) -> None:
    for arguments, message in [
        ({"columns": ["nonsense"]}, "no column 'nonsense', but clip_id"),
        ({"filters": [("nonsense", "==", 1)]}, "the column 'nonsense'"),
        ({"filters": [("label", "~", "dog")]}, "write them as"),
        ({"filters": [("label", "==", "cow")]}, "no clip that passes"),
        ({"version": 99_999}, "99999"),
    ]:
        with pytest.raises(DatasetError, match=message):
            TokenReader.open(tokens, **arguments)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> TokenReader:
    root = tmp_path_factory.mktemp("others") / "tokens"
    commit_all(root, unit_records(work_unit("other.mp4", label="bird"), 11))
    return TokenReader.open(root, columns=COLUMNS)


def test_a_mixture_keeps_its_proportions_and_resumes_exactly(
    reader: TokenReader, others: TokenReader
) -> None:
    mixture = Mixture.of({"all": reader, "birds": others}, {"all": 1, "birds": 3}, num_samples=100)
    config = small()

    def loaders(world_size: int) -> list[TokenLoader]:
        return [
            TokenLoader(mixture, config, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]

    (alone,) = loaders(1)
    epochs = [list(alone), list(alone)]
    for epoch in epochs:
        labels = [label for batch in epoch for label in batch.columns["label"]]
        assert (len(labels), labels.count("bird")) == (100, 75)
        assert "bird" in labels[:12]
        assert set(labels[:12]) != {"bird"}
    # A dataset's own epochs follow each other without a gap: 75 draws of 11 clips.
    birds = [
        clip
        for epoch in epochs
        for batch in epoch
        for clip, label in zip(batch.columns["clip_id"], batch.columns["label"], strict=True)
        if label == "bird"
    ]
    for start in range(0, 150 - 11, 11):
        assert len(set(birds[start : start + 11])) == 11
    states, consumed = [], []
    for rank, loader in enumerate(loaders(3)):
        for _, batch in zip(range(2 + rank), loader, strict=False):
            consumed.append(batch)
        states.append(loader.state_dict())
    rest = []
    for loader in loaders(2):
        loader.load_state_dict(states)
        rest += list(loader)
    assert sorted(clips(consumed) + clips(rest)) == sorted(clips(epochs[0]))


def test_only_equal_vocabularies_are_mixed(reader: TokenReader, tmp_path: Path) -> None:
    root = tmp_path / "foreign"
    lineage = sample_lineage(codebook_hash="d" * 64)
    committer = Committer(TokenDataset.create_or_open(root, lineage), "run")
    for record in unit_records(work_unit("a.mp4", label="x"), 2):
        committer.add(record)
    committer.close()
    foreign = TokenReader.open(root, columns=COLUMNS)
    with pytest.raises(DatasetError, match="codebook_hash"):
        Mixture.of({"ours": reader, "theirs": foreign})
    with pytest.raises(DatasetError, match="weights must be above 0"):
        Mixture.of({"ours": reader}, {"ours": 0})


def test_the_default_mixture_reads_every_sample_once(
    reader: TokenReader, others: TokenReader, tmp_path: Path
) -> None:
    # 5 / (5 / 14) and 9 / (9 / 14) are below 14 to a machine.
    few = {}
    for name, count in (("five", 5), ("nine", 9)):
        commit_all(tmp_path / name, unit_records(work_unit(f"{name}.mp4", label="x"), count))
        few[name] = TokenReader.open(tmp_path / name, columns=COLUMNS)
    for readers in ({"all": reader, "birds": others}, few):
        found = clips(list(TokenLoader(Mixture.of(readers), small())))
        assert len(found) == len(set(found)) == sum(each.num_samples for each in readers.values())


def test_large_row_groups_are_read_one_window_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    records = [
        record for number in range(3) for record in unit_records(work_unit(f"{number}.mp4"), 1500)
    ]
    commit_all(root, records, CommitConfig(every_clips=None))
    reader = TokenReader.open(root, columns=["clip_id"])
    assert [group.num_samples for group in reader.groups] == [2048, 2048, 404]
    loader = TokenLoader(reader, LoaderConfig(batch_size=100, order=OrderConfig(window_samples=1)))
    found = [batch.columns["clip_id"] for batch in loader]
    flat = [clip for batch in found for clip in batch]
    assert set(flat) == everything(root)
    assert len(flat) == 4500
