"""Manifests: every format gives the same listing, every fault one line with its row and remedy."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import QuarantineReason, RecordError, SourceError
from pipeline.planning import plan
from pipeline.records import ListedVideo
from pipeline.sources import SourceConfig, list_batches, list_videos
from pipeline.sources.batches import ROWS_PER_BATCH, videos_of
from pipeline.storage import StorageConfig, canonical_uri, local_copy
from sweettok.errors import ConfigError
from tests.test_planning import finished_units

FORMATS = ("parquet", "csv", "tsv", "jsonl")
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows in the format of the suffix."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        lines = [names, *([row.get(name) for name in names] for row in rows)]
        quoted = (delimiter.join(quote(cell) for cell in line) for line in lines)
        path.write_bytes("".join(line + "\r\n" for line in quoted).encode())
    return path


def quote(cell: Any) -> str:
    if cell is None:
        return ""
    text = cell if isinstance(cell, str) else json.dumps(cell)
    return '"' + text.replace('"', '""') + '"'


def listed(path: str | Path, *allowed_roots: object, **manifest: Any) -> list[ListedVideo]:
    """The listing of one manifest, whose rows may also point below `allowed_roots`."""
    roots = [str(root) for root in allowed_roots]
    values = {"manifests": [{"uri": str(path), **manifest}], "allowed_roots": roots}
    return list(list_videos(SourceConfig.from_mapping(values)))


def facts_of(path: Path) -> tuple[int, str]:
    """Size and version as the listing of the file itself has them."""
    (video,) = list_videos(SourceConfig(uris=(str(path),)))
    return video.size_bytes, video.version


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_listing(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "videos" / "q?x#y ü.mp4"
    odd.parent.mkdir()
    odd.write_bytes(b"12345")
    rows = [
        {"uri": "videos/q?x#y ü.mp4", "caption": 'a "dog", ü', "label": "x"},
        {"uri": str(odd) + "2", "size_bytes": 7, "etag": "abc", "caption": "b\nc"},
        {"uri": "s3://bucket/a b.mp4", "size_bytes": 8, "etag": "abc", "mtime": "today"},
        {"uri": odd.as_uri() + "3", "size_bytes": 9, "mtime": "today", "label": "y"},
        {"uri": "../up.mp4", "size_bytes": 1, "etag": "e", "label": None},
    ]
    path = write_rows(tmp_path / f"manifest.{kind}", rows)
    videos = listed(path, "s3://bucket", tmp_path.parent)
    base = canonical_uri(odd)
    assert videos == [
        ListedVideo(base, *facts_of(odd), {"caption": 'a "dog", ü', "label": "x"}),
        ListedVideo(base + "2", 7, "abc", {"caption": "b\nc"}),
        ListedVideo("s3://bucket/a b.mp4", 8, '"abc"', {}),
        ListedVideo(base + "3", 9, "today", {"label": "y"}),
        ListedVideo(canonical_uri(tmp_path.parent / "up.mp4"), 1, "e", {}),
    ]


@settings(max_examples=30, deadline=None)
@given(captions=st.lists(CELLS, min_size=1, max_size=5))
def test_texts_come_through_unaltered(
    tmp_path_factory: pytest.TempPathFactory, captions: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("manifests")
    rows = [
        {"uri": f"{number}.mp4", "size_bytes": 1, "etag": "e", "caption": caption}
        for number, caption in enumerate(captions)
    ]
    for kind in FORMATS:
        found = listed(write_rows(folder / f"manifest.{kind}", rows))
        assert [video.attributes["caption"] for video in found] == captions


def test_values_that_are_no_texts_become_texts(tmp_path: Path) -> None:
    row = {"uri": "a.mp4", "size_bytes": 5, "etag": "e", "n": 3, "x": 0.5, "b": True, "l": [1, "ü"]}
    expected = {"n": "3", "x": "0.5", "b": "true", "l": '[1, "ü"]'}
    for kind in ("parquet", "jsonl"):
        (video,) = listed(write_rows(tmp_path / f"manifest.{kind}", [row | {"l": row["l"]}] if kind
                                     == "jsonl" else [row | {"l": ["1", "ü"]}]))  # fmt: skip
        wanted = expected if kind == "jsonl" else expected | {"l": '["1", "ü"]'}
        assert (video.size_bytes, video.attributes) == (5, wanted)
    codes = pa.array(["x", "y", "x"]).dictionary_encode()
    table = pa.table({"uri": ["1", "2", "3"], "split": codes})
    pq.write_table(table, tmp_path / "coded.parquet")
    assert [video.attributes["split"] for video in listed(tmp_path / "coded.parquet")] == [*"xyx"]


def test_a_number_that_is_missing_is_no_text(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [("1", 0.5), ("2", nan), ("3", None)]
    columns = {"uri": [uri for uri, _ in rows], "score": [score for _, score in rows]}
    for kind in (pa.float64(), pa.float32(), pa.float16()):
        scores = pa.array(columns["score"], pa.float64()).cast(kind)
        table = pa.table({**columns, "score": scores, "size_bytes": pa.array([7.0, nan, None])})
        pq.write_table(table, tmp_path / "scores.parquet")
        found = [video.attributes for video in listed(tmp_path / "scores.parquet")]
        assert found == [{"score": "0.5"}, {}, {}]
    path = tmp_path / "scores.jsonl"
    path.write_text('{"uri": "1", "score": NaN, "all": [1, NaN, {"x": NaN}]}\n')
    assert listed(path)[0].attributes == {"all": '[1, null, {"x": null}]'}
    path.write_text('{"uri": "1", "score": "nan"}\n')
    assert listed(path)[0].attributes == {"score": "nan"}


def test_a_missing_file_is_listed_and_its_reading_says_why(tmp_path: Path) -> None:
    gone = ["gone.mp4", "memory://nowhere/gone.mp4", "not-a-folder/gone.mp4", f"{'n' * 999}.mp4"]
    (tmp_path / "not-a-folder").touch()
    path = write_rows(tmp_path / "manifest.csv", [{"uri": uri} for uri in gone])
    videos = listed(path, "memory://nowhere")
    assert {(video.size_bytes, video.version) for video in videos} == {(0, "")}
    assert len(videos) == 4
    for video in videos[:3]:
        with (
            pytest.raises(RecordError) as caught,
            local_copy(video.uri, StorageConfig(), max_bytes=9),
        ):
            pass
        assert caught.value.reason == QuarantineReason.NOT_FOUND
    (tmp_path / "gone.mp4").write_bytes(b"back")
    assert listed(path, "memory://nowhere")[0].fingerprint != videos[0].fingerprint


def test_which_rows_the_store_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    rows = [{"uri": "a.mp4", "etag": "old"}, {"uri": "./a.mp4", "size_bytes": 9, "etag": "old"}]
    bare = write_rows(tmp_path / "bare.jsonl", rows[:1])
    full = write_rows(tmp_path / "full.jsonl", rows[1:])

    def facts(manifest: Path, look_up: str) -> tuple[int, str]:
        (video,) = listed(manifest, look_up=look_up)
        assert video.uri == canonical_uri(path)
        return video.size_bytes, video.version

    assert facts(bare, "missing") == facts(bare, "always") == facts_of(path)
    assert facts(bare, "never") == (0, "old")
    assert facts(full, "missing") == facts(full, "never") == (9, "old")
    assert facts(full, "always") == facts_of(path)
    os.utime(path, ns=(0, 1))
    assert facts(bare, "missing") == facts_of(path) == (5, "1")


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    rows = [{"path": "a.mp4", "bytes": 4, "hash": "h", "caption": "c", "clip_id": "x", "uri": "u"}]
    path = write_rows(tmp_path / "manifest.csv", rows)
    (video,) = listed(
        path, uri_column="path", size_column="bytes", etag_column="hash", attributes=["caption"]
    )
    assert video == ListedVideo(canonical_uri(tmp_path / "a.mp4"), 4, "h", {"caption": "c"})


def test_a_folder_of_manifests_and_compressed_ones(tmp_path: Path) -> None:
    row = {"size_bytes": 1, "etag": "e"}
    write_rows(tmp_path / "part-1.parquet", [{"uri": "1.mp4", **row}])
    write_rows(tmp_path / "part-0.csv", [{"uri": "0.mp4", **row}])
    plain = write_rows(tmp_path / "part-2.jsonl", [{"uri": "2.mp4", **row}])
    (tmp_path / "part-2.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (tmp_path / "_SUCCESS").touch()
    names = [video.uri.rpartition("/")[2] for video in listed(tmp_path)]
    assert names == ["0.mp4", "1.mp4", "2.mp4"]
    assert [video.uri[-5:] for video in listed(f"{tmp_path}/*.parquet")] == ["1.mp4"]


def test_a_remote_manifest_is_relative_to_itself() -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/lists/a/manifest.csv", b"uri\nx.mp4\n../y z.mp4\nfile:///local.mp4\n")
    store.pipe("/lists/a/x.mp4", b"123")
    try:
        videos = listed("memory://lists/a/manifest.csv", "memory:///lists", "/local.mp4")
    finally:
        store.rm("/lists", recursive=True)
    assert [video.uri for video in videos] == [
        "memory:///lists/a/x.mp4", "memory:///lists/y z.mp4", "file:///local.mp4"
    ]  # fmt: skip
    assert [video.size_bytes for video in videos] == [3, 0, 0]


FAULTS = {
    "no_uri.csv": ("url,caption\na,b\n", r"no column 'uri', it has url, caption; correct uri_col"),
    "signed.csv": (
        "uri,caption\nhttps://h/a.mp4?X-Amz-Signature=hunter2,c\n",
        r"the 'uri' of line 2 carries a query parameter 'X-Amz-Signature'",
    ),
    "null_uri.csv": ("uri,caption\na,b\n,c\n", r"line 3 has no 'uri'; name a video there or"),
    "blank_uri.jsonl": ('{"uri": "a"}\n\n{"uri": " "}\n', r"line 3 has no 'uri'"),
    "no_key.jsonl": ('{"uri": "a"}\n{"url": "b"}\n', r"line 2 has no 'uri'"),
    "torn.jsonl": ('{"uri": "a"}\n{"uri": \n', r"line 2 is not JSON.*one JSON object; mend"),
    "list.jsonl": ('{"uri": "a"}\n["b"]\n', r"line 2 holds '\[\"b\"\]': every line must be one"),
    "twice.jsonl": ('{"uri": "a", "x": 1, "x": 2}\n', r"line 1 has 'x' twice; rename"),
    "twice.csv": ("uri,x,x\na,b,c\n", r"column 'x' is there twice; rename or remove one"),
    "cases.csv": ("uri,x,X\na,b,c\n", r"attribute 'X' clashes with 'x'.*rename it, or name the"),
    "reserved.csv": ("uri,clip_id\na,b\n", r"'clip_id' clashes.*dataset.*or name the wanted col"),
    "spaces.csv": ("uri,my label\na,b\n", r"'my label' cannot be a column: rename it"),
    "ragged.csv": ("uri,x\na,b\nc\n", r"line 3 has 1 cells, the header names 2; mend the row"),
    "open_quote.csv": ('uri,x\na,"b\nc,d\n', r"the row at line \d cannot be read .*quote"),
    "number.jsonl": ('{"uri": "a"}\n{"uri": 5}\n', r"line 2 has 5 for 'uri', which must be a text"),
    "size.csv": ("uri,size_bytes,etag\na,1,e\nb,1 kB,e\n", r"line 3 has '1 kB' for 'size_bytes'"),
    "empty.csv": ("", r"holds no row; give another manifest"),
    "header_only.csv": ("uri\n", r"holds no row"),
    "not_one.parquet": ("hello", r"cannot be read as parquet"),
    "not_gzip.csv.gz": ("uri\na\n", r"cannot be read as csv"),
    "unknown.xlsx": ("uri\na\n", r"unknown kind of manifest '.xlsx', known are .parquet, .csv"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_manifest_is_one_error_with_row_and_remedy(tmp_path: Path, name: str) -> None:
    text, message = FAULTS[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SourceError, match=message) as caught:
        listed(path)
    assert str(caught.value).startswith(canonical_uri(path))
    assert "\n" not in str(caught.value)


def test_faults_that_no_text_shows(tmp_path: Path) -> None:
    latin = tmp_path / "latin.csv"
    latin.write_bytes("uri,x\na,ü\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"is not UTF-8.*iconv"):
        listed(latin)
    repeated = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["uri", "uri"])
    pq.write_table(repeated, tmp_path / "repeated.parquet")
    with pytest.raises(SourceError, match=r"column 'uri' is there twice"):
        listed(tmp_path / "repeated.parquet")
    pq.write_table(pa.table({"uri": ["a", None]}), tmp_path / "null.parquet")
    with pytest.raises(SourceError, match=r"row 2 has no 'uri'"):
        listed(tmp_path / "null.parquet")
    pq.write_table(pa.table({"uri": [5, 6], "x": ["a", "b"]}), tmp_path / "numbers.parquet")
    with pytest.raises(SourceError, match=r"column 'uri' holds int64 from row 1 on.*uri_column"):
        listed(tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"uri": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(SourceError, match=r"holds no row"):
        listed(tmp_path / "none.parquet")
    pq.write_table(pa.table({"uri": ["a"], "thumbnail": [b"x"]}), tmp_path / "bytes.parquet")
    with pytest.raises(SourceError, match=r"'thumbnail' holds bytes.*name the wanted ones"):
        listed(tmp_path / "bytes.parquet")
    assert listed(tmp_path / "bytes.parquet", attributes=[])[0].attributes == {}
    with pytest.raises(SourceError, match="does not exist"):
        listed(tmp_path / "none.csv")


def test_a_misspelt_setting_is_named(tmp_path: Path) -> None:
    for kind in ("csv", "jsonl"):
        rows = [{"uri": "a", "caption": "c"}]
        path = write_rows(tmp_path / f"manifest.{kind}", rows)
        with pytest.raises(SourceError, match=r"no column 'captoin'.*correct attributes\[0\]"):
            listed(path, attributes=["captoin"])
        with pytest.raises(SourceError, match=r"no column 'bytes'.*correct size_column"):
            listed(path, size_column="bytes")
    with pytest.raises(ConfigError, match="names no videos: give uris, manifests or shards"):
        SourceConfig.from_mapping({})


def test_of_a_mixed_source_the_first_mention_counts(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    rows = [{"uri": name, "caption": f"of {name}"} for name in ("b.mp4", "sub/c.mp4", "b.mp4")]
    first = write_rows(tmp_path / "first.csv", rows)
    second = write_rows(tmp_path / "second.jsonl", [{"uri": "a.mp4", "caption": "another"}])
    source = SourceConfig.from_mapping(
        {"uris": [str(tmp_path / "sub")], "manifests": [str(first), str(second)]}
    )
    expected = [
        ("c.mp4", {}),
        ("b.mp4", {"caption": "of b.mp4"}),
        ("a.mp4", {"caption": "another"}),
    ]
    assert [(v.uri.rpartition("/")[2], v.attributes) for v in list_videos(source)] == expected
    planned = plan(list_batches(source), finished_units([]))
    assert [(u.uri.rpartition("/")[2], u.attributes) for u in planned.units] == expected
    assert (planned.counts.num_listed, planned.counts.num_repeated) == (5, 2)
    assert sum(len(list(videos_of(batch))) for batch in list_batches(source)) == 5


def test_a_manifest_is_a_stream(tmp_path: Path) -> None:
    """The first rows come although a later one is faulty."""
    path = tmp_path / "long.jsonl"
    line = '{"uri": "x.mp4", "size_bytes": 1, "etag": "e"}\n'
    path.write_text(line * ROWS_PER_BATCH + "torn\n")
    batches = list_batches(SourceConfig.from_mapping({"manifests": [str(path)]}))
    assert next(batches).num_rows == ROWS_PER_BATCH
    with pytest.raises(SourceError, match=f"line {ROWS_PER_BATCH + 1} is not JSON"):
        next(batches)


def test_content_tells_what_a_time_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"12345")
    by_name = SourceConfig(uris=(str(path),), fingerprint="content")
    manifest = write_rows(
        tmp_path / "m.csv", [{"uri": "a.mp4", "caption": "c"}, {"uri": "gone.mp4"}]
    )
    in_manifest = SourceConfig.from_mapping(
        {"manifests": [str(manifest)], "fingerprint": "content"}
    )
    (before,) = list_videos(by_name)
    listed_again, missing = list_videos(in_manifest)
    assert listed_again.fingerprint == before.fingerprint
    assert (listed_again.size_bytes, listed_again.attributes) == (5, {"caption": "c"})
    assert (missing.size_bytes, missing.version) == (0, "")
    os.utime(path, ns=(0, 1))
    assert list(list_videos(by_name)) == [before]
    path.write_bytes(b"54321")
    os.utime(path, ns=(0, 1))
    (after,) = list_videos(by_name)
    assert after.fingerprint != before.fingerprint
