"""Decoding a dataset into a directory: whole, of one run, and never over what others wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.decode_job import DecodeDatasetConfig, decode_dataset
from pipeline.errors import DatasetError
from tests.in_process_run import tokenize_in_process
from tests.tiny_corpus import tokenize_config
from tests.video_factory import make_video

NUM_CLIPS = 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: str) -> Path:
    root = tmp_path_factory.mktemp("decode_job")
    (root / "videos").mkdir()
    make_video(root / "videos" / "a.mp4", num_frames=40)
    config = tokenize_config(root / "videos", tokenizer_directory, root / "tokens")
    assert tokenize_in_process(config, batch_size=4).rows().read_all().num_rows == NUM_CLIPS
    return root / "tokens"


def decode(dataset: Path, output: Path, **settings: object) -> set[str]:
    """The names of the files that a run leaves."""
    values = {"dataset": {"uri": str(dataset)}, "output": str(output), "sheet_originals": False}
    files = decode_dataset(DecodeDatasetConfig.from_mapping(values | settings))
    assert (files.directory, files.contact_sheet.is_file()) == (output, True)
    names = {file.name for file in output.iterdir()}
    assert sum(name.endswith(".mp4") for name in names) == files.num_clips
    assert [file.name for file in output.parent.iterdir() if file.name.startswith(".")] == []
    return names


def test_a_directory_holds_the_clips_of_one_run(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "decoded"
    first = decode(dataset, output, max_clips=3)
    assert {"config.yaml", "contact_sheet.png", "decoded_files.json"} < first
    second = decode(dataset, output, max_clips=1)
    assert len(second) == len(first) - 2
    assert "max_clips: 1" in (output / "config.yaml").read_text()
    assert len(decode(dataset, output)) == len(second) + NUM_CLIPS - 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert decode(dataset, empty, max_clips=3) == first


def test_a_failed_run_leaves_the_earlier_one_as_it_was(dataset: Path, tmp_path: Path) -> None:
    before = decode(dataset, tmp_path / "decoded", max_clips=1)
    with pytest.raises(DatasetError, match=r"no clip of file:///none.mp4"):
        decode(dataset, tmp_path / "decoded", video="/none.mp4")
    assert {file.name for file in (tmp_path / "decoded").iterdir()} == before
    assert decode(dataset, tmp_path / "decoded", max_clips=1) == before


@pytest.mark.parametrize("marker", [None, "[]", "5", "no JSON"])
def test_what_another_wrote_is_not_replaced(
    dataset: Path, tmp_path: Path, marker: str | None
) -> None:
    (tmp_path / "config.yaml").write_text("seed: 1")
    if marker is not None:
        (tmp_path / "decoded_files.json").write_text(marker)
    with pytest.raises(DatasetError, match=r"which this job did not write; name another directory"):
        decode(dataset, tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "seed: 1"


def test_a_file_that_was_added_is_not_lost(dataset: Path, tmp_path: Path) -> None:
    before = decode(dataset, tmp_path / "decoded", max_clips=1)
    (tmp_path / "decoded" / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"decoded: holds 'notes.txt', which this job did not"):
        decode(dataset, tmp_path / "decoded")
    assert {file.name for file in (tmp_path / "decoded").iterdir()} == before | {"notes.txt"}


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_cannot_be_the_output(dataset: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(DatasetError, match=rf"output .*/{name}: cannot be a directory \(.*another"):
        decode(dataset, tmp_path / name)
    assert (tmp_path / "file").read_text() == "a file"
