"""Running the same job again after the corpus has changed: only what changed moves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.cli import run_job
from pipeline.dataset import TokenDataset
from pipeline.errors import SourceError
from pipeline.storage import canonical_uri
from pipeline.tokenization import TokenizeConfig, tokenize_corpus
from sweettok.errors import ConfigError
from tests.job_runs import write_config
from tests.test_shards import write_shard
from tests.tiny_corpus import tokenize_config, tokenize_values
from tests.video_factory import make_video, numbered_frame, truncate

NUM_VIDEOS = 200
CLIP_FRAMES = 9

pytestmark = pytest.mark.ray


def make_short_video(path: Path, first_number: int) -> Path:
    """One clip whose frames tell their number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [numbered_frame((first_number + i) % 256, 48, 32) for i in range(CLIP_FRAMES)]
    return make_video(path, frames=frames)


def rows_of(uri: str, version: int | None = None) -> pa.Table:
    """All rows of a version, in clip order."""
    return TokenDataset.open(uri, version=version).rows().read_all().sort_by("clip_id")


def names_of(rows: pa.Table) -> set[str]:
    return {uri.rpartition("/")[2] for uri in rows["video_uri"].to_pylist()}


def test_only_what_changed_moves(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    paths = [corpus / f"{number % 5}" / f"{number:03}.mp4" for number in range(NUM_VIDEOS)]
    for number, path in enumerate(paths):
        make_short_video(path, number)
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens", on_removed="delete")
    first = tokenize_corpus(config)
    assert (first.num_listed, first.num_tokenized, first.num_unchanged) == (200, 200, 0)
    before = rows_of(first.dataset_uri)

    changed, removed = paths[3:6], paths[10:12]
    added = [corpus / "new" / f"{number}.mp4" for number in range(5)]
    for number, path in enumerate([*changed, *added]):
        make_short_video(path, 100 + number)
    for path in removed:
        path.unlink()
    # Nobody opens an unchanged video: this one is no video any more, and nothing is noticed.
    status = paths[20].stat()
    paths[20].write_bytes(bytes(status.st_size))
    os.utime(paths[20], ns=(status.st_atime_ns, status.st_mtime_ns))

    second = tokenize_corpus(config)
    assert second.lines()[0] == (
        "listed 203 = tokenized 8 + quarantined 0 + unchanged 195; removed 2, of which deleted 2"
    )
    assert second.num_clips == 8
    after = rows_of(second.dataset_uri)
    moved = after.filter(pc.field("run_id") == second.run_id)
    assert names_of(moved) == {path.name for path in [*changed, *added]}
    assert moved.num_rows == 8
    stayed = after.filter(pc.field("run_id") == first.run_id)
    gone = pa.array([canonical_uri(path) for path in [*changed, *removed]])
    assert stayed.equals(before.filter(pc.invert(pc.is_in(before["video_uri"], value_set=gone))))
    assert before.num_rows == 200
    assert after.num_rows == 203
    assert rows_of(first.dataset_uri, first.dataset_version).equals(before)

    third = tokenize_corpus(config)
    assert third.lines() == [
        "listed 203 = tokenized 0 + quarantined 0 + unchanged 203",
        f"nothing to do: {third.dataset_uri} is up to date",
    ]
    assert third.dataset_version == second.dataset_version
    refuse_and_keep(config, corpus)


def refuse_and_keep(config: TokenizeConfig, corpus: Path) -> None:
    """A source that lacks most of the dataset deletes nothing."""
    before = rows_of(config.dataset.uri)
    smaller = config.source.model_copy(update={"uris": (str(corpus / "new"),)})
    wrong = config.model_copy(update={"source": smaller})
    with pytest.raises(SourceError, match=r"lacks 198 of the 203 .*max_removed_fraction = 0.2; n"):
        tokenize_corpus(wrong)
    kept = tokenize_corpus(wrong.model_copy(update={"on_removed": "keep"}))
    assert kept.lines()[0] == (
        "listed 5 = tokenized 0 + quarantined 0 + unchanged 5; removed 198, of which deleted 0"
    )
    assert rows_of(config.dataset.uri).equals(before)
    deleted = tokenize_corpus(wrong.model_copy(update={"max_removed_fraction": 1}))
    assert (deleted.num_deleted, rows_of(config.dataset.uri).num_rows) == (198, 5)


def test_a_takedown_stays_and_quarantine_is_retried_by_reason(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus"
    good, private = (make_short_video(corpus / f"{name}.mp4", 7) for name in ("good", "private"))
    truncate(make_short_video(corpus / "cut.mp4", 9), 0.5)
    (corpus / "empty.mp4").touch()
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    first = tokenize_corpus(config)
    assert (first.num_tokenized, first.num_quarantined) == (2, 2)
    dataset = TokenDataset.open(first.dataset_uri)
    removal = dataset.take_down([canonical_uri(private)], run_id="request", reason="asked for")
    assert (removal.num_videos, removal.num_clips) == (1, 1)

    make_short_video(private, 50)
    make_short_video(corpus / "cut.mp4", 9)
    os.utime(corpus / "cut.mp4", ns=(0, 1))
    reasons = dict(zip(*TokenDataset.open(first.dataset_uri).quarantine().select(
        ["video_uri", "reason"]).to_pydict().values(), strict=True))  # fmt: skip
    reason = reasons[canonical_uri(corpus / "empty.mp4")]
    retried = config.model_copy(update={"retry_quarantined": (reason,)})
    second = tokenize_corpus(retried)
    # The mended file is new work anyway, the empty one is tried again, the rest is left alone.
    assert second.lines()[0] == (
        "listed 4 = tokenized 1 + quarantined 1 + unchanged 2 (of which taken down 1)"
    )
    assert second.reasons == {"empty": 1}
    assert names_of(rows_of(second.dataset_uri)) == {"good.mp4", "cut.mp4"}

    # Another clip policy makes other tokens; what was taken down stays out there too.
    private_only = config.source.model_copy(update={"uris": (str(private),)})
    target = config.dataset.model_copy(
        update={"uri": str(tmp_path / "next"), "new_version_of": first.dataset_uri}
    )
    successor = tokenize_corpus(
        config.model_copy(
            update={
                "source": private_only,
                "dataset": target,
                "clips": config.clips.model_copy(update={"frame_stride": 2}),
            }
        )
    )
    assert successor.lines() == [
        "listed 1 = tokenized 0 + quarantined 0 + unchanged 1 (of which taken down 1)",
        f"nothing to do: {target.uri} is up to date, 1 video kept out by takedowns "
        "(takedown.lift lets videos in)",
    ]
    assert TokenDataset.open(target.uri).predecessor.uri == first.dataset_uri
    assert good.exists()


def test_manifest_rows_and_shard_members_become_clips_with_their_columns(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    video = make_short_video(tmp_path / "videos" / "a.mp4", 7)
    shard = write_shard(
        tmp_path / "0.tar", [("x.mp4", video.read_bytes()), ("x.txt", b"in a shard")]
    )
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri,caption,split\nvideos/a.mp4,in a folder,train\nvideos/b.mp4,gone,\n")
    source = {"manifests": [str(manifest)], "shards": {"uris": [str(shard)]}}
    config = tokenize_config(tmp_path, tokenizer_directory, tmp_path / "tokens", source=source)
    summary = tokenize_corpus(config)
    assert summary.lines()[0] == "listed 3 = tokenized 2 + quarantined 1 + unchanged 0"
    assert summary.reasons == {"not_found": 1}
    rows = {row["caption"]: row for row in rows_of(summary.dataset_uri).to_pylist()}
    assert {caption: row["split"] for caption, row in rows.items()} == {
        "in a folder": "train", "in a shard": None
    }  # fmt: skip
    in_folder, in_shard = rows["in a folder"], rows["in a shard"]
    assert in_shard["video_uri"] == f"{canonical_uri(shard)}#x.mp4"
    for name in ("spatial_tokens", "temporal_tokens", "frame_indices"):
        assert in_folder[name] == in_shard[name]
    again = tokenize_corpus(config)
    assert again.num_unchanged == 3


def test_flags_set_settings(tokenizer_directory: str, tmp_path: Path) -> None:
    from jobs.tokenize_corpus import FLAGS

    seen: list[TokenizeConfig] = []
    values = tokenize_values(tmp_path, tokenizer_directory, tmp_path / "tokens")
    path = write_config(tmp_path / "config.yaml", values)

    def run(*arguments: str) -> Any:
        code = run_job(
            "Tokenizes.", TokenizeConfig, seen.append, example="…", flags=FLAGS,
            arguments=["--config", str(path), *arguments],
        )  # fmt: skip
        return seen.pop() if code == 0 else code

    plain = run()
    assert (plain.on_removed, plain.retried_reasons) == ("keep", ())
    config = run(
        "--on-removed", "delete", "--new-version-of", "s3://b/a: #1", "--retry-quarantined"
    )
    assert config.on_removed == "delete"
    assert config.dataset.new_version_of == "s3://b/a: #1"
    assert len(config.retried_reasons) > 5
    assert "taken_down" not in config.retried_reasons
    config = run("--retry-quarantined", "truncated, empty", "--set", "on_removed=delete")
    assert config.retry_quarantined == ("truncated", "empty")
    assert run("--retry-quarantined", "tuncated") == 2
    with pytest.raises(ConfigError, match=r"a takedown is lifted by jobs/maintain_dataset\.py"):
        TokenizeConfig.from_mapping(values | {"retry_quarantined": ["taken_down"]})
