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
    with pytest.raises(
        SourceError, match=r"unknown kind of captions '.captions', .*set format to one of"
    ):
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
    with pytest.raises(SourceError, match=r"b\.jsonl: line 1 is not JSON"):
        next(captions)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", b"id,text\n1,a dog\n", r"no column 'caption', it has id, text; set column"),
        ("c.csv", b"", r"no column 'caption', it has none"),
        ("c.jsonl", b'{"text": "a dog"}\n', r"no column 'caption', it has text"),
        ("c.jsonl", b'{"caption": "a"}\n3\n', r"line 2: every line must be .*found '3'; mend"),
        ("c.jsonl", b'\n["a dog"]\n', r"line 2 begins an array, .*; a JSON array .*jq -c"),
        ("c.jsonl", b'{"caption": "a"}\n{"cap\n', r"line 2 is not JSON \(.*mend or remove it"),
        ("c.jsonl", b'{"caption": "a"}\n{"x":1}\n', r"line 2: no column 'caption', it has x"),
        ("c.jsonl", b'{"caption": 3}\n', r"line 1: column 'caption' holds int, must hold texts"),
        ("c.json", b"[]", r"if each line is one JSON object, set format to jsonl; a JSON array"),
        ("c.parquet", b"no parquet", r"cannot be read as parquet"),
        ("c.txt", b"a dog\n" * 9999 + b"a d\xffg\n", r"line 10000 is not UTF-8 .*0xff.*iconv"),
        ("c.csv", b"caption\n\xe4\n", r"c\.csv: line 2 is not UTF-8 \(byte 0xe4\)"),
        ("c.csv", b"caption\n" + b"a" * 200_000, r"row after line 1 cannot be read \(field lar"),
        ("c.jsonl", b'{"caption": "\xff"}', r"line 1 is not UTF-8"),
        ("c.txt", b"\n \n", r"^0 captions read from .*c\.txt: no row, or nothing but empty ones"),
        ("c.csv", b"caption\n", r"^0 captions read from .*another column \(it is 'caption'\)"),
        ("c.txt.gz", b"no gzip", r"cannot be read as text"),
    ],
)
def test_a_damaged_file_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read(tmp_path / name)


def test_texts_in_parquet_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    texts = pyarrow.array([b"a dog", b"a d\xffg"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"caption": texts}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"c\.parquet: column 'caption' holds texts that are not"):
        read(tmp_path / "c.parquet")


def test_missing_captions_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.txt: does not exist"):
        read(tmp_path / "none.txt")


def test_a_directory_without_captions_says_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing")
    for root in (tmp_path, tmp_path / "*.md", "memory://nowhere"):
        with pytest.raises(SourceError, match=r"holds no captions \(files .*\.jsonl") as refused:
            read(root)
        assert "source.extensions" not in str(refused.value)
