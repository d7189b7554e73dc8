"""Captions from every kind of file, local and remote, and what is refused."""

import bz2
import csv
import gzip
import json
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest

from pipeline.captions import CaptionsConfig, read_captions
from pipeline.errors import SourceError

CAPTIONS = ['A "red" dog, running.', "Ein Hündchen läuft.", "Two birds\tfall down."]


def write(directory: Path, name: str) -> Path:
    """The captions, with an empty one among them, as a file of the kind that `name` tells."""
    path = directory / name
    rows = [CAPTIONS[0], "  ", *CAPTIONS[1:]]
    if name.endswith(".parquet"):
        lists = [[CAPTIONS[0], ""], None, CAPTIONS[1:]] if "lists" in name else rows
        pyarrow.parquet.write_table(
            pyarrow.table({"id": list(range(len(lists))), "caption": lists}), path, row_group_size=2
        )
        return path
    opened = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opened(path, "wt", encoding="utf-8", newline="") as file:  # type: ignore[operator]
        if ".jsonl" in name:
            file.writelines(json.dumps({"id": i, "caption": r}) + "\n" for i, r in enumerate(rows))
            file.write("\n" + json.dumps({"caption": None}))
        elif ".txt" in name:
            file.write("\r\n".join(rows))
        else:
            table = csv.writer(file, delimiter="\t" if ".tsv" in name else ",")
            table.writerows([("id", "caption"), *enumerate(rows)])
    return path


def read(*uris: object, **changes: object) -> list[str]:
    return list(read_captions(CaptionsConfig(uris=tuple(map(str, uris)), **changes)))


@pytest.mark.parametrize(
    "name",
    ["c.parquet", "lists.parquet", "c.csv", "c.tsv", "c.jsonl", "c.txt", "c.csv.gz", "c.txt.bz2"],
)
def test_every_kind_of_file_gives_the_same_captions(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    assert read(path) == CAPTIONS
    assert read(tmp_path) == CAPTIONS
    assert read(path.as_uri(), max_captions=2) == CAPTIONS[:2]


def test_a_format_may_be_told_and_files_come_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.captions").write_text("second\n")
    (tmp_path / "a.captions").write_text("\ufefffirst\n")
    files = [tmp_path / "b.captions", tmp_path / "a.captions"]
    assert read(*files, format="text") == ["first", "second"]
    with pytest.raises(SourceError, match=r"unknown kind of captions '.captions', .*format"):
        read(*files)


def test_captions_are_read_from_remote_stores() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/one.csv", b"caption\na dog\n")
    memory.pipe("/corpus/two.jsonl.gz", gzip.compress(b'{"caption": "a cat"}'))
    assert read("memory://corpus") == ["a dog", "a cat"]


def test_reading_is_lazy(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first\nsecond\n")
    (tmp_path / "b.jsonl").write_text("no JSON\n")
    captions = read_captions(CaptionsConfig(uris=(str(tmp_path),)))
    assert [next(captions), next(captions)] == ["first", "second"]
    with pytest.raises(SourceError, match=r"b\.jsonl: captions cannot be read as jsonl"):
        next(captions)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"id,text\n1,a dog\n", r"no column 'caption', it has id, text; set captions"),
        ("c.csv", b"", r"no column 'caption', it has none"),
        ("c.jsonl", b'{"text": "a dog"}\n', r"no column 'caption', it has text"),
        ("c.jsonl", b'["a dog"]\n', r"every line must be one JSON object"),
        ("c.jsonl", b'{"caption": 3}\n', r"column 'caption' holds int, must hold texts"),
        ("c.parquet", b"no parquet", r"cannot be read as parquet"),
        ("c.txt", b"a d\xffg\n", r"cannot be read as text"),
        ("c.txt.gz", b"no gzip", r"cannot be read as text"),
    ],
)
def test_a_damaged_file_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read(tmp_path / name)


def test_missing_captions_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.txt: does not exist"):
        read(tmp_path / "none.txt")
