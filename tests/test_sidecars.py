"""The texts of a shard's samples: what is wrong with one ends in quarantine, the others go on."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import pytest

from pipeline.clips import ClipConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import QuarantineReason, SourceError
from pipeline.planning import plan
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Quarantine, UnitEnd, WorkUnit
from pipeline.sources import SourceConfig, list_batches, list_videos
from pipeline.storage import StorageConfig, canonical_uri
from pipeline.unit_parts import split_units
from tests.test_planning import finished_units
from tests.test_shards import as_json, shards, write_shard
from tests.tiny_models import tiny_config

FAULTS = {
    "torn": ([("a.json", b"{")], r"member 'a.json' is not JSON .*mend it or leave it out"),
    "list": ([("a.json", b"[1]")], r"member 'a.json' must hold one JSON object"),
    "half": ([("a.json", b'{"x": "\\ud800"}')], r"member 'a.json' holds what is no text"),
    "latin": ([("a.txt", "ü".encode("latin-1"))], r"member 'a.txt' is not UTF-8"),
    "two": (
        [("a.json", b'{"caption": "x"}'), ("a.txt", b"y")],
        r"member 'a.txt' has another value for attribute 'caption'.*text_attribute",
    ),
    "large": ([("a.txt", b" " * (2**20 + 1))], r"has 1048577 bytes, above the limit of 1048576"),
    "both": ([("a.json", b"{"), ("a.txt", b"\xff")], r"'a.json' is not JSON.*; .*'a.txt' is not U"),
}


def units_of(source: SourceConfig) -> list[WorkUnit]:
    return list(plan(list_batches(source), finished_units([])).units)


def quarantine_of(unit: WorkUnit) -> Quarantine:
    """What the decode stage says of a unit that gives no clip."""
    geometry = tiny_config().geometry
    stage = DecodeStage(
        DecodeConfig(), ClipConfig(), PreprocessConfig(), geometry, StorageConfig()
    )  # fmt: skip
    stage.setup()
    (end,) = stage.process(unit)
    stage.close()
    assert isinstance(end, UnitEnd)
    assert end.quarantine is not None
    return end.quarantine


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("fingerprint", ["stat", "content"])
def test_a_sample_with_faulty_texts_ends_in_quarantine(
    tmp_path: Path, name: str, fingerprint: str
) -> None:
    members, message = FAULTS[name]
    good = [("b.mp4", b"x"), ("b.json", as_json(label="dog")), ("b.txt", b"a dog")]
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"x"), *members, *good])
    source = shards(path).model_copy(update={"fingerprint": fingerprint})
    faulty, healthy = units_of(source)
    assert (healthy.fault, healthy.attributes) == (None, {"label": "dog", "caption": "a dog"})
    assert split_units([faulty], part_bytes=1, num_workers=1) == [faulty]
    found = quarantine_of(faulty)
    assert (found.reason, found.stage) == (QuarantineReason.BAD_METADATA, "read")
    assert found.message.startswith(canonical_uri(path))
    assert re.search(message, found.message)


def test_mending_a_sample_makes_it_a_changed_one(tmp_path: Path) -> None:
    """Even where fingerprints are of the video's bytes, which stay the same."""
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"x"), ("a.json", b"{")])
    source = shards(path).model_copy(update={"fingerprint": "content"})
    (faulty,) = list_videos(source)
    write_shard(path, [("a.mp4", b"x"), ("a.json", b"{}")])
    (mended,) = list_videos(source)
    assert mended.fault is None
    assert mended.fingerprint != faulty.fingerprint
    assert quarantine_of(WorkUnit.from_listed(mended)).reason == QuarantineReason.NOT_A_VIDEO


def test_texts_that_nobody_wants_are_not_judged(tmp_path: Path) -> None:
    members = [("a.mp4", b"x"), ("a.json", b"{"), ("a.txt", b"\xff"), ("a.note.txt", b"kept")]
    path = write_shard(tmp_path / "0.tar", members)
    (video,) = list_videos(shards(path, attributes=[]))
    assert (video.fault, video.attributes) == (None, {})
    write_shard(path, [member for member in members if member[0] != "a.json"])
    (video,) = list_videos(shards(path, attributes=["note"]))
    assert (video.fault, video.attributes) == (None, {"note": "kept"})


def test_a_name_that_the_dataset_has_itself_stops_with_a_remedy(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"x"), ("a.json", as_json(clip_id=1))])
    with pytest.raises(SourceError, match=r"'clip_id' clashes.*source.shards.attributes") as caught:
        list(list_videos(shards(path)))
    assert str(caught.value).startswith(canonical_uri(path))
    assert [video.fault for video in list_videos(shards(path, attributes=["label"]))] == [None]


def linked_shard(path: Path) -> Path:
    """A shard in which every other member is no regular file."""
    with tarfile.open(path, "w") as archive:
        for name in ("a.mp4", "a.txt"):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"bytes"))
        for name, kind, target in (
            ("b.mp4", tarfile.SYMTYPE, "a.mp4"),
            ("c.mp4", tarfile.LNKTYPE, "a.mp4"),
            ("d.mp4", tarfile.FIFOTYPE, ""),
            ("a.title.txt", tarfile.SYMTYPE, "a.txt"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, target
            archive.addfile(info)
    return path


def test_links_are_called_links(tmp_path: Path) -> None:
    units = units_of(shards(linked_shard(tmp_path / "0.tar")))
    found = {unit.uri.rpartition("#")[2]: quarantine_of(unit) for unit in units}
    link = "is a link to 'a.mp4', and a shard must hold the file itself; write it with `tar --deref"
    assert link in found["b.mp4"].message
    assert link in found["c.mp4"].message
    assert "member 'd.mp4' is not a regular file" in found["d.mp4"].message
    assert {found[name].reason for name in ("b.mp4", "c.mp4", "d.mp4")} == {
        QuarantineReason.READ_ERROR
    }
    assert found["a.mp4"].reason == QuarantineReason.BAD_METADATA
    assert "member 'a.title.txt' is a link to 'a.txt'" in found["a.mp4"].message
