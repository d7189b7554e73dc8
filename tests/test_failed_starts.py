"""Runs that cannot begin: one clear error early, and nothing left where the dataset would be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, LineageError, PipelineError
from pipeline.storage import StorageConfig
from pipeline.tokenization import tokenize_corpus
from tests.tiny_corpus import tokenize_config
from tests.token_samples import sample_lineage


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with one file that lists well."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"not opened before the listing is whole")
    return folder


def test_a_source_that_cannot_be_listed_leaves_no_dataset_behind(
    videos: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("caption\nno column with a URI\n")
    root = tmp_path / "tokens"
    for source in (
        {"uris": ["/nonexistent"]},
        {"uris": [str(videos)], "manifests": [str(manifest)]},
        {"uris": [str(videos)], "manifests": [str(tmp_path / "missing.csv")]},
        {"uris": [str(videos)], "shards": {"uris": [str(tmp_path / "no.tar")]}},
    ):
        with pytest.raises(PipelineError):
            tokenize_corpus(tokenize_config(videos, tokenizer_directory, root, source=source))
        assert not root.exists(), source


def test_a_dataset_that_cannot_continue_another_is_refused_and_not_begun(
    videos: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    root = tmp_path / "tokens"
    config = tokenize_config(videos, tokenizer_directory, root)
    target = config.dataset.model_copy(update={"new_version_of": str(tmp_path / "nowhere")})
    config = config.model_copy(update={"dataset": target})
    with pytest.raises(DatasetError, match="nowhere: there is no Delta table"):
        tokenize_corpus(config)
    assert not root.exists()


def test_another_lineage_is_refused_before_the_source_is_listed(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    root = tmp_path / "tokens"
    TokenDataset.create_or_open(root, sample_lineage())
    config = tokenize_config(Path("/nonexistent"), tokenizer_directory, root)
    with pytest.raises(LineageError, match="holds tokens of another lineage"):
        tokenize_corpus(config)


@pytest.mark.parametrize("below", ["file", "file/folder", "/proc/foo"])
def test_a_place_where_no_folder_can_be_made_is_one_line_with_cause_and_remedy(
    below: str, videos: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    root = tmp_path / below / "tokens"
    cause = "No such file or directory" if below == "/proc/foo" else f"{tmp_path}/file is a file"
    for attempt in (
        lambda: TokenDataset.create_or_open(root, sample_lineage()),
        lambda: tokenize_corpus(tokenize_config(videos, tokenizer_directory, root)),
    ):
        with pytest.raises(DatasetError) as caught:
            attempt()
        assert str(caught.value) == (
            f"{root}: the dataset's folder cannot be made: {cause}; choose a dataset.uri where "
            "this user may write, or allow it"
        )


def test_a_place_where_no_folder_can_be_made_is_found_before_the_listing(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    config = tokenize_config(Path("/nonexistent"), tokenizer_directory, tmp_path / "file" / "x")
    with pytest.raises(DatasetError, match="is a file; choose"):
        tokenize_corpus(config)


def test_a_bucket_that_does_not_exist_is_one_line_with_a_remedy(endpoint_url: str) -> None:
    storage = StorageConfig(endpoint_url=endpoint_url, region="us-east-1")
    with pytest.raises(DatasetError, match=r"choose a dataset\.uri where this user may") as caught:
        TokenDataset.create_or_open("s3://no-such-bucket/x", sample_lineage(), storage=storage)
    assert "\n" not in str(caught.value)
