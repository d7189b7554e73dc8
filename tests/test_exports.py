"""Exports, each read back by the library that owns the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import webdataset

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, PipelineError
from pipeline.exports.job import ExportConfig, export_tokens
from pipeline.exports.megatron import MegatronWriter
from pipeline.sequences import SequenceVocabulary
from pipeline.sequences.interleaved import VideoWords
from sweettok.errors import ConfigError
from tests.test_sequences import byte_tokenizer
from tests.token_samples import commit_all, unit_records, work_unit

CLASSES = ("cat", "dog")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of one to three clips with labels and captions."""
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    for number in range(6):
        label = CLASSES[number % 2]
        unit = work_unit(f"{number}.mp4", label=label, caption=f"a {label} №{number} runs")
        commit_all(root, unit_records(unit, 1 + number % 3))
    return root


@pytest.fixture(scope="module")
def rows(root: Path) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in TokenDataset.open(root).rows().read_all().to_pylist()}


def exported(root: Path, output: Path, **values: Any) -> Path:
    given = {"dataset": {"uri": str(root)}, "output": str(output), "clips_per_file": 4}
    summary = export_tokens(ExportConfig.from_mapping(given | values))
    assert summary.num_clips == 12
    assert json.loads((output / "export.json").read_text())["num_items"] == summary.num_items
    return output


def test_webdataset_reads_its_shards(
    root: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    output = exported(root, tmp_path / "out", format="webdataset", columns=["label"])
    shards = sorted(map(str, output.glob("*.tar")))
    assert len(shards) == 3
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode())
    assert {sample["__key__"] for sample in found} == rows.keys()
    for sample in found:
        row = rows[sample["__key__"]]
        assert sample["spatial.npy"].tolist() == row["spatial_tokens"]
        assert sample["temporal.npy"].tolist() == row["temporal_tokens"]
        assert sample["json"]["label"] == row["label"]
        assert sample["json"]["start_s"] == row["start_s"]


def test_hugging_face_datasets_reads_its_rows(
    root: Path, rows: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    output = exported(root, tmp_path / "out", format="huggingface", columns=["label"])
    found = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(found) == len(rows)
    for sample in found:
        assert sample.items() <= rows[sample["clip_id"]].items()
    assert len(list((output / "data").iterdir())) == 3


def megatron_dataset(prefix: Path) -> Any:
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    return indexed.IndexedDataset(str(prefix))


def test_megatron_reads_flat_sequences(
    root: Path, rows: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    output = exported(
        root, tmp_path / "out", format="megatron", sequences="flat", class_column="label"
    )
    vocabulary = SequenceVocabulary.from_mapping(
        json.loads((output / "export.json").read_text())["vocabulary"]
    )
    assert vocabulary.class_names == CLASSES
    found = megatron_dataset(output / "tokens")
    assert len(found) == len(rows)
    assert found[0].dtype == np.uint16
    listed = {tuple(sequence.tolist()) for sequence in found}
    for row in rows.values():
        spatial = [vocabulary.first_spatial + token for token in row["spatial_tokens"]]
        temporal = [vocabulary.first_temporal + token for token in row["temporal_tokens"]]
        assert (1, vocabulary.class_id(row["label"]), *spatial, *temporal, 2) in listed


@pytest.mark.parametrize("num_ids", [65_536, 65_537])
@pytest.mark.parametrize("lengths", [[], [3], [1, 5, 2]])
def test_megatron_reads_sequences_of_any_length(
    num_ids: int, lengths: list[int], tmp_path: Path
) -> None:
    sequences = [np.arange(length) + num_ids - 10 for length in lengths]
    assert MegatronWriter(tmp_path / "tokens", num_ids).write(sequences) == len(lengths)
    if not lengths:
        return
    found = megatron_dataset(tmp_path / "tokens")
    assert [sequence.tolist() for sequence in found] == [list(map(int, s)) for s in sequences]
    assert found.document_indices.tolist() == list(range(len(lengths) + 1))


@pytest.mark.parametrize("form", ["megatron", "huggingface"])
def test_interleaved_sequences_hold_whole_videos(
    root: Path, rows: dict[str, dict[str, Any]], tmp_path: Path, form: str
) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "text")
    output = exported(
        root,
        tmp_path / "out",
        format=form,
        sequences="interleaved",
        text_tokenizer=str(tmp_path / "text"),
        caption_column="caption",
    )
    if form == "megatron":
        sequences = [sequence.tolist() for sequence in megatron_dataset(output / "tokens")]
    else:
        table = datasets.load_dataset(str(output), split="train", cache_dir=str(tmp_path / "cache"))
        sequences = [sample["input_ids"] for sample in table]
    facts = json.loads((output / "export.json").read_text())["vocabulary"]
    tokenizer = byte_tokenizer()
    words = VideoWords.added_to(
        tokenizer, SequenceVocabulary.of_lineage(TokenDataset.open(root).lineage)
    )
    assert facts["first_spatial"] == words.first_spatial
    videos = [words.unpack(tokenizer, sequence) for sequence in sequences]
    assert len(videos) == 6
    by_tokens = {
        tuple(row["spatial_tokens"] + row["temporal_tokens"]): row for row in rows.values()
    }
    for video in videos:
        found = [by_tokens[clip.spatial + clip.temporal] for clip in video.clips]
        assert [row["clip_index"] for row in found] == list(range(len(found)))
        assert {row["caption"] for row in found} == {video.caption}
        assert [row["start_s"] for row in found] == [clip.start_s for clip in video.clips]


def test_a_failing_export_leaves_nothing_and_never_overwrites(root: Path, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "mine.txt").write_text("keep me")
    with pytest.raises(DatasetError, match="is there already"):
        exported(root, occupied, format="webdataset")
    with pytest.raises(PipelineError, match="no tokenizer can be loaded"):
        exported(
            root,
            tmp_path / "out",
            format="megatron",
            sequences="interleaved",
            text_tokenizer=str(tmp_path / "nowhere"),
        )
    assert not (tmp_path / "out").exists()
    assert (occupied / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "megatron"}, "set sequences to flat or interleaved"),
        ({"format": "webdataset", "sequences": "flat"}, "set sequences to rows"),
        ({"format": "megatron", "sequences": "interleaved"}, "they need it"),
        ({"format": "huggingface", "class_column": "label"}, "goes with flat"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportConfig.from_mapping({"dataset": {"uri": "x"}, "output": "y"} | values)
