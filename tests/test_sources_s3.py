"""Sources on a real S3-compatible server: pages, patterns, manifests, shards by byte range."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from pipeline.errors import QuarantineReason, RecordError, SourceError
from pipeline.sources import SourceConfig, find_video, list_videos
from pipeline.storage import StorageConfig, local_copy
from tests.test_shards import write_shard

BUCKET = "sources"
NUM_OBJECTS = 1003  # more than one page of a listing


class Bucket:
    """A bucket of its own on the server."""

    def __init__(self, endpoint_url: str) -> None:
        self.storage = {"endpoint_url": endpoint_url, "region": "us-east-1"}
        session = botocore.session.get_session()
        self._client = session.create_client(
            "s3", endpoint_url=endpoint_url, region_name="us-east-1"
        )
        self._client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, content: bytes = b"x") -> None:
        self._client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def etag(self, key: str) -> str:
        return str(self._client.head_object(Bucket=BUCKET, Key=key)["ETag"])

    def source(self, **values: Any) -> SourceConfig:
        return SourceConfig.from_mapping({"storage": self.storage, **values})

    def names(self, *keys: str) -> list[str]:
        """Keys of what a listing of `keys` finds."""
        roots = [f"s3://{BUCKET}/{key}" for key in keys]
        return [
            video.uri.removeprefix(f"s3://{BUCKET}/")
            for video in list_videos(self.source(uris=roots))
        ]


@pytest.fixture(scope="module")
def bucket(endpoint_url: str) -> Bucket:
    return Bucket(endpoint_url)


def test_a_large_folder_comes_page_by_page_in_order(bucket: Bucket) -> None:
    keys = [f"many/{number % 7}/v{number:05}.mp4" for number in range(NUM_OBJECTS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(bucket.put, [*keys, "many/notes.txt", "many/9.mp4/"]))
    assert bucket.names("many") == sorted(keys)
    assert bucket.names("many/3", "many") == sorted(keys)


def test_folders_objects_and_patterns(bucket: Bucket) -> None:
    for key in ("p/a/1.mp4", "p/a/2.MKV", "p/ab/x/3.mp4", "p/b/4.mp4", "p/b/[5].mp4", "p/6.txt",
                "p/ü &%.mp4", "pq/7.mp4"):  # fmt: skip
        bucket.put(key)
    assert bucket.names("p/a*") == ["p/a/1.mp4", "p/a/2.MKV", "p/ab/x/3.mp4"]
    assert bucket.names("p/*/*.mp4") == ["p/a/1.mp4", "p/b/4.mp4", "p/b/[5].mp4"]
    assert bucket.names("p/**/3.mp4") == ["p/ab/x/3.mp4"]
    assert bucket.names("p/b/[5].mp4") == ["p/b/[5].mp4"]
    assert bucket.names("p/b/[4].mp4") == ["p/b/4.mp4"]
    assert bucket.names("p/6.txt") == ["p/6.txt"]
    assert bucket.names("p/b", "p/ü*") == ["p/b/4.mp4", "p/b/[5].mp4", "p/ü &%.mp4"]
    assert len(bucket.names("p/")) == 6
    with pytest.raises(SourceError, match=r"s3://sources/nothing: holds no file"):
        bucket.names("nothing")
    with pytest.raises(SourceError, match=r"s3://no-such-bucket.*cannot be listed"):
        list(list_videos(bucket.source(uris=["s3://no-such-bucket/x"])))


def test_a_manifest_in_the_store(bucket: Bucket) -> None:
    bucket.put("m/videos/a.mp4", b"12345")
    bucket.put("m/videos/b.mp4", b"1234567")
    etag = bucket.etag("m/videos/b.mp4").strip('"')
    rows = f"videos/a.mp4,,,one\nvideos/b.mp4,7,{etag},two\nvideos/c.mp4,,,three\n"
    bucket.put("m/list.csv", f"uri,size_bytes,etag,caption\n{rows}".encode())
    videos = list(list_videos(bucket.source(manifests=[f"s3://{BUCKET}/m/list.csv"])))
    assert [video.attributes["caption"] for video in videos] == ["one", "two", "three"]
    in_folder = list(list_videos(bucket.source(uris=[f"s3://{BUCKET}/m/videos"])))
    # Whichever way a video is listed, it has one identity and one state.
    assert [(v.video_id, v.fingerprint) for v in videos[:2]] == [
        (v.video_id, v.fingerprint) for v in in_folder
    ]
    storage = StorageConfig.from_mapping(bucket.storage)
    with (
        pytest.raises(RecordError) as caught,
        local_copy(videos[2].uri, storage, max_bytes=100),
    ):
        pass
    assert caught.value.reason == QuarantineReason.NOT_FOUND


def test_a_shard_in_the_store_is_read_by_byte_range(bucket: Bucket, tmp_path: Path) -> None:
    contents = {f"{number}.mp4": bytes([number]) * (200_000 + number) for number in range(4)}
    members = [*contents.items(), *((f"{n}.txt", f"video {n}".encode()) for n in range(4))]
    path = write_shard(tmp_path / "0.tar", members)
    bucket.put("s/0.tar", path.read_bytes())
    source = bucket.source(shards={"uris": [f"s3://{BUCKET}/s"]})
    videos = list(list_videos(source))
    assert [video.attributes for video in videos] == [{"caption": f"video {n}"} for n in range(4)]
    storage = StorageConfig.from_mapping(bucket.storage)
    for video, content in zip(videos, contents.values(), strict=True):
        copy = local_copy(
            video.uri, storage, max_bytes=10**6, directory=str(tmp_path), member=video.member
        )
        with copy as local:
            assert Path(local).read_bytes() == content
        assert find_video(video.uri, video.fingerprint, storage).member == video.member
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.tar"]
    bucket.put("s/0.tar", path.read_bytes()[:250_000])
    with (
        pytest.raises(RecordError) as caught,
        local_copy(videos[1].uri, storage, max_bytes=10**6, member=videos[1].member),
    ):
        pass
    assert caught.value.reason == QuarantineReason.TRUNCATED


def test_content_on_the_store(bucket: Bucket) -> None:
    bucket.put("c/a.mp4", b"12345")
    source = bucket.source(uris=[f"s3://{BUCKET}/c"], fingerprint="content")
    (before,) = list_videos(source)
    bucket.put("c/a.mp4", b"12345")
    assert list(list_videos(source)) == [before]
    bucket.put("c/a.mp4", b"54321")
    (after,) = list_videos(source)
    assert after.fingerprint != before.fingerprint
    storage = StorageConfig.from_mapping(bucket.storage)
    assert find_video(after.uri, after.fingerprint, storage).fingerprint == after.fingerprint
