"""Tar shards: every member by its byte range, every damage accounted for."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import QuarantineReason, RecordError, SourceChangedError, SourceError
from pipeline.planning import plan
from pipeline.records import ListedVideo
from pipeline.sources import SourceConfig, find_video, list_batches, list_videos
from pipeline.storage import StorageConfig, canonical_uri, local_copy
from tests.test_planning import finished_units

Member = tuple[str, bytes]


def write_shard(path: Path, members: Sequence[Member]) -> Path:
    """Writes a tar file as WebDataset tools do."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def shards(*uris: Path | str, **settings: object) -> SourceConfig:
    values = {"uris": [str(uri) for uri in uris], **settings}
    return SourceConfig.from_mapping({"shards": values})


def content_of(video: ListedVideo) -> bytes:
    """What a decoder would be given."""
    copy = local_copy(video.uri, StorageConfig(), max_bytes=10**6, member=video.member)
    with copy as path:
        assert Path(path).suffix == Path(video.uri).suffix
        return Path(path).read_bytes()


def reason_of(video: ListedVideo) -> QuarantineReason:
    with pytest.raises(RecordError) as caught:
        content_of(video)
    assert caught.value.stage == "read"
    return caught.value.reason


def as_json(**values: object) -> bytes:
    return json.dumps(values).encode()


def test_samples_become_videos_with_their_texts(tmp_path: Path) -> None:
    first = write_shard(
        tmp_path / "a 0.tar",
        [
            ("./x/", b""),
            ("x/000.mp4", b"first video"),
            ("x/000.json", as_json(label="dog", n=3, nothing=None, tags=["a"])),
            ("x/000.txt", b" a dog runs \n"),
            ("x/001.txt", b"before its video"),
            ("x/001.MKV", b"second"),
            ("x/001.title.txt", b"a title"),
            ("x/002.left.mp4", b"l"),
            ("x/002.right.mp4", b"r"),
            ("x/002.json", as_json(label="two")),
            ("x/000.jpg", b"no video"),
        ],
    )
    long_name = "y/" + "n" * 150 + " ü#%.mp4"
    no_text = os.fsdecode(b"y/\xff\xe9.mp4")
    second = write_shard(tmp_path / "b.tar", [(long_name, b"third"), (no_text, b"fourth")])
    videos = list(list_videos(shards(tmp_path)))
    base = canonical_uri(first)
    assert [video.uri for video in videos[:4]] == [
        f"{base}#x/000.mp4", f"{base}#x/001.MKV", f"{base}#x/002.left.mp4",
        f"{base}#x/002.right.mp4",
    ]  # fmt: skip
    assert [video.attributes for video in videos] == [
        {"label": "dog", "n": "3", "tags": '["a"]', "caption": "a dog runs"},
        {"caption": "before its video", "title": "a title"},
        {"label": "two"},
        {"label": "two"},
        {},
        {},
    ]
    assert [content_of(video) for video in videos] == [b"first video", b"second", b"l", b"r",
                                                       b"third", b"fourth"]  # fmt: skip
    assert [video.size_bytes for video in videos] == [11, 6, 1, 1, 5, 6]
    assert len({video.video_id for video in videos}) == 6
    assert list(list_videos(shards(second, first))) == videos
    units = list(plan(list_batches(shards(tmp_path)), finished_units([])).units)
    assert [unit.member for unit in units] == [video.member for video in videos]
    for video in videos:
        unit = find_video(video.uri, video.fingerprint, StorageConfig())
        assert (unit.video_id, unit.member) == (video.video_id, video.member)


@settings(max_examples=30, deadline=None)
@given(
    contents=st.lists(st.binary(max_size=1500), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
)
def test_any_order_of_members_gives_the_same_samples(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], order: object
) -> None:
    members = []
    for number, content in enumerate(contents):
        members += [(f"{number}.mp4", content), (f"{number}.json", as_json(size=len(content)))]
    order.shuffle(members)  # type: ignore[attr-defined]
    path = write_shard(tmp_path_factory.mktemp("shards") / "0.tar", members)
    videos = list(list_videos(shards(path)))
    found = {video.uri.rpartition("#")[2]: video for video in videos}
    assert found.keys() == {f"{number}.mp4" for number in range(len(contents))}
    for number, content in enumerate(contents):
        video = found[f"{number}.mp4"]
        assert video.attributes == {"size": str(len(content))}
        assert content_of(video) == content


def test_a_changed_shard_changes_its_videos(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"one"), ("b.mp4", b"two")])
    by_stat, by_content = shards(path), shards(path).model_copy(update={"fingerprint": "content"})
    before, before_content = list(list_videos(by_stat)), list(list_videos(by_content))
    write_shard(path, [("a.mp4", b"one"), ("b.mp4", b"TWO")])
    after, after_content = list(list_videos(by_stat)), list(list_videos(by_content))
    assert [video.video_id for video in after] == [video.video_id for video in before]
    assert all(a.fingerprint != b.fingerprint for a, b in zip(after, before, strict=True))
    assert after_content[0].fingerprint == before_content[0].fingerprint
    assert after_content[1].fingerprint != before_content[1].fingerprint
    unit = find_video(after[0].uri, before_content[0].fingerprint, StorageConfig())
    assert unit.fingerprint == before_content[0].fingerprint
    with pytest.raises(SourceChangedError, match="has changed"):
        find_video(after[0].uri, before[0].fingerprint, StorageConfig())
    path.unlink()
    with pytest.raises(SourceError, match="is gone"):
        find_video(after[0].uri, after[0].fingerprint, StorageConfig())


def test_a_truncated_shard_loses_nothing_without_a_trace(tmp_path: Path) -> None:
    members = [("a.mp4", b"a" * 2000), ("a.txt", b"kept"), ("b.mp4", b"b" * 2000)]
    path = write_shard(tmp_path / "0.tar", members)
    whole = path.read_bytes()
    ends = {"mid video": 4 * 512 + 2560 + 700, "mid header": 5 * 512 + 1024 + 100}
    for end in ends.values():
        path.write_bytes(whole[:end])
        videos = list(list_videos(shards(path)))
        assert content_of(videos[0]) == b"a" * 2000
        assert [reason_of(video) for video in videos[1:]] == [QuarantineReason.TRUNCATED] * (
            len(videos) - 1
        )
        assert len(videos) > 1
        assert "unreadable-from-byte-" in videos[-1].uri
        with pytest.raises(SourceError, match=r"0.tar: cannot be read from byte .*on_removed keep"):
            list(list_batches(shards(path), allow_damage=False))
    path.write_bytes(whole.rstrip(b"\0"))  # complete but for its end: the last video is whole
    *good, end = list_videos(shards(path))
    assert reason_of(end) == QuarantineReason.TRUNCATED
    assert len(good) == 2


def test_a_damaged_header_is_noticed(tmp_path: Path) -> None:
    members = [("a.mp4", b"a" * 600), ("b.mp4", b"b" * 600), ("c.mp4", b"c")]
    path = write_shard(tmp_path / "0.tar", members)
    damaged = bytearray(path.read_bytes())
    damaged[1536 + 10] ^= 0xFF  # in the header of b.mp4
    path.write_bytes(damaged)
    good, rest = list_videos(shards(path))
    assert content_of(good) == b"a" * 600
    assert rest.uri.endswith("#unreadable-from-byte-1536")
    assert len(content_of_block(rest)) == 512
    path.write_bytes(b"this is no tar file" * 100)
    (rest,) = list_videos(shards(path))
    assert rest.uri.endswith("#unreadable-from-byte-0")


def content_of_block(video: ListedVideo) -> bytes:
    copy = local_copy(video.uri, StorageConfig(), max_bytes=10**6, member=video.member)
    with copy as path:
        return Path(path).read_bytes()


def test_a_shard_that_is_gone_when_it_is_read(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "0.tar", [("a.mp4", b"12345")])
    (video,) = list_videos(shards(path))
    with (
        pytest.raises(RecordError, match="5 bytes or more, above the limit of 4"),
        local_copy(video.uri, StorageConfig(), max_bytes=4, member=video.member),
    ):
        pass
    path.unlink()
    assert reason_of(video) == QuarantineReason.NOT_FOUND


def test_an_empty_shard_is_no_error_and_no_video(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", [])
    write_shard(tmp_path / "1.tar", [("a.mp4", b"x")])
    assert len(list(list_videos(shards(tmp_path)))) == 1
    (batch,) = list_batches(shards(tmp_path), allow_damage=False)
    assert batch.num_rows == 1
    with pytest.raises(SourceError, match=r"no shard holds a member ending in .*mp4"):
        list(list_videos(shards(tmp_path / "0.tar")))


def test_counted_patterns_and_compressed_shards(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        write_shard(tmp_path / f"s-{number:03}.tar", [("a.mp4", b"x")])
    counted = f"{tmp_path}/s-{{008..010}}.tar"
    assert len(list(list_videos(shards(counted)))) == 3
    with pytest.raises(SourceError, match=r"s-011.tar: does not exist"):
        list(list_videos(shards(f"{tmp_path}/s-{{008..011}}.tar")))
    with pytest.raises(SourceError, match="write the smaller one first"):
        list(list_videos(shards(f"{tmp_path}/s-{{010..008}}.tar")))
    (tmp_path / "t.tar.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"t.tar.gz: a compressed shard.*decompress it"):
        list(list_videos(shards(tmp_path)))
