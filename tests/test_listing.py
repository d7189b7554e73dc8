"""Listing and storage: every input once, sorted, whatever its name; local and remote alike."""

import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import QuarantineReason, RecordError, SourceError
from pipeline.sources import SourceConfig, list_videos
from pipeline.storage import StorageConfig, canonical_uri, local_copy, local_path
from sweettok.errors import ConfigError

ODD_NAMES = ["a b.mp4", "100%.mp4", "a%20b.mp4", "ünïcode 视频.mp4", "q?x#y.mp4", "clip[1].mp4"]


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def uris(*roots: str | Path, **config) -> list[str]:
    source = SourceConfig(uris=tuple(map(str, roots)), **config)
    return [video.uri for video in list_videos(source)]


def test_a_directory_is_read_recursively_in_uri_order(tmp_path: Path) -> None:
    names = ["b/z.mp4", "b.mp4", "b-1.webm", "b/a.MKV", "a/deep/er/x.gif", "c.txt", "noext"]
    for name in names:
        touch(tmp_path / name)
    found = uris(tmp_path)
    assert found == sorted(found)
    assert set(found) == {canonical_uri(tmp_path / name) for name in names[:5]}
    assert uris(tmp_path) == found


def test_overlapping_roots_list_each_video_once(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4"):
        touch(tmp_path / name)
    roots = (tmp_path / "b", tmp_path, tmp_path / "a", tmp_path / "a" / "1.mp4", f"{tmp_path}/*/*")
    assert uris(*roots) == [canonical_uri(tmp_path / n) for n in ("a/1.mp4", "a/2.mp4", "b/3.mp4")]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_lead_back_to_their_file(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name, name.encode())
    for root in (tmp_path, tmp_path / name):
        (uri,) = uris(root)
        assert uri.startswith("file:///")
        assert canonical_uri(uri) == uri
        with local_copy(uri, StorageConfig(), max_bytes=100) as path:
            assert Path(path).read_bytes() == name.encode()


def test_a_name_that_is_not_text_survives(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff\xe9.mp4")
    with open(path, "wb") as file:
        file.write(b"bytes")
    (uri,) = uris(tmp_path)
    assert uri.isascii()
    assert os.fsencode(local_path(uri)) == path


@given(st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1))
def test_uris_are_canonical_and_reversible(name: str) -> None:
    path = os.path.join("/data", name)
    uri = canonical_uri(path)
    assert local_path(uri) == os.path.abspath(path)
    assert canonical_uri(uri) == uri


def test_relative_paths_and_remote_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert canonical_uri("data/x") == f"file://{tmp_path}/data/x"
    assert canonical_uri("./data/../x.mp4") == f"file://{tmp_path}/x.mp4"
    assert canonical_uri("s3://bucket/a b%20c.mp4") == "s3://bucket/a b%20c.mp4"


def test_patterns(tmp_path: Path) -> None:
    for name in ("a/1.mp4", "a/2.avi", "b/3.mp4", "b/4.txt"):
        touch(tmp_path / name)
    assert uris(f"{tmp_path}/*/*.mp4") == [
        canonical_uri(tmp_path / "a/1.mp4"),
        canonical_uri(tmp_path / "b/3.mp4"),
    ]
    assert len(uris(f"{tmp_path}/[ab]")) == 3
    assert len(uris(f"{tmp_path}/**/*.txt", extensions=(".txt",))) == 1


def test_links_and_directories_with_video_names(tmp_path: Path) -> None:
    touch(tmp_path / "x.mp4" / "inside.mp4")
    touch(tmp_path / "real.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.mp4").symlink_to(tmp_path / "self.mp4")
    found = [uri.removeprefix(canonical_uri(tmp_path)) for uri in uris(tmp_path)]
    assert found == ["/dangling.mp4", "/real.mp4", "/self.mp4", "/x.mp4/inside.mp4"]
    with (
        pytest.raises(RecordError) as caught,
        local_copy(canonical_uri(tmp_path / "dangling.mp4"), StorageConfig(), max_bytes=9),
    ):
        pass
    assert (caught.value.reason, caught.value.stage) == (QuarantineReason.NOT_FOUND, "read")


def test_a_changed_file_has_another_fingerprint_and_the_same_id(tmp_path: Path) -> None:
    path = touch(tmp_path / "a.mp4")
    source = SourceConfig(uris=(str(tmp_path),))
    (before,) = list_videos(source)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    (after,) = list_videos(source)
    assert before.video_id == after.video_id
    assert before.fingerprint != after.fingerprint


def test_a_named_file_needs_no_known_suffix(tmp_path: Path) -> None:
    assert uris(touch(tmp_path / "film.y4m")) == [canonical_uri(tmp_path / "film.y4m")]


def test_faulty_roots_are_named_with_a_remedy(tmp_path: Path) -> None:
    touch(tmp_path / "readme.txt")
    with pytest.raises(SourceError, match=r"no_such_folder.*does not exist; give"):
        uris(tmp_path / "no_such_folder")
    with pytest.raises(SourceError, match=r"holds no file ending in \.mp4.*extend"):
        uris(tmp_path, extensions=(".mp4",))
    with pytest.raises(SourceError, match="nosuchscheme"):
        uris("nosuchscheme://bucket/x")
    with pytest.raises(SourceError, match=r"memory://missing: holds no file ending in"):
        uris("memory://missing")


def test_patterns_without_a_match_are_called_patterns(tmp_path: Path, remote_folder: str) -> None:
    touch(tmp_path / "readme.txt")
    with pytest.raises(SourceError, match=r"\*\.mp4: matches nothing; check the pattern"):
        uris(tmp_path / "*.mp4")
    with pytest.raises(SourceError, match=r"matches no file ending in .*mp4.*check the pattern"):
        uris(tmp_path / "*.txt")
    with pytest.raises(SourceError, match=r"matches no file ending in .*check the pattern"):
        uris(f"{remote_folder}/none/*.mp4")


@pytest.fixture
def web_folder(tmp_path: Path) -> Iterator[str]:
    """The files below `tmp_path`, served over HTTP."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_address_with_a_query_is_one_file(tmp_path: Path, web_folder: str) -> None:
    touch(tmp_path / "a.mp4", b"12345")
    touch(tmp_path / "stream", b"123")
    roots = [f"{web_folder}/{name}" for name in ("a.mp4?part=1*", "a.mp4", "stream?v=7")]
    videos = list(list_videos(SourceConfig(uris=tuple(roots))))
    assert sorted((video.uri, video.size_bytes) for video in videos) == sorted(
        zip(roots, (5, 5, 3), strict=True)
    )
    with local_copy(roots[0], StorageConfig(), max_bytes=9) as path:
        assert (Path(path).read_bytes(), Path(path).suffix) == (b"12345", ".mp4")
    with pytest.raises(SourceError, match=r"gone.mp4\?x=1: .*its host gives no such file \(404"):
        uris(f"{web_folder}/gone.mp4?x=1")


def test_a_large_directory_is_streamed(tmp_path: Path) -> None:
    """The first videos come although a later root does not exist."""
    touch(tmp_path / "a" / "1.mp4")
    touch(tmp_path / "b" / "2.mp4")
    videos = list_videos(SourceConfig(uris=(str(tmp_path),)))
    first = next(videos)
    (tmp_path / "b" / "2.mp4").rename(tmp_path / "b" / "renamed.mp4")
    assert first.uri.endswith("1.mp4")
    assert next(videos).uri.endswith("renamed.mp4")


@pytest.fixture
def remote_folder() -> str:
    """A folder in fsspec's own in-memory store."""
    store = fsspec.filesystem("memory")
    for name in ("v/b.mp4", "v/a b%.mp4", "v/sub/c.webm", "v/notes.txt"):
        store.pipe(f"/corpus/{name}", name.encode())
    yield "memory://corpus"
    store.rm("/corpus", recursive=True)


def test_remote_listing_and_copies(remote_folder: str, tmp_path: Path) -> None:
    videos = list(list_videos(SourceConfig(uris=(remote_folder, f"{remote_folder}/v/*.mp4"))))
    assert [video.uri.rpartition("corpus/")[2] for video in videos] == [
        "v/a b%.mp4",
        "v/b.mp4",
        "v/sub/c.webm",
    ]
    assert [video.size_bytes for video in videos] == [10, 7, 12]
    for video in videos:
        with local_copy(video.uri, StorageConfig(), max_bytes=100, directory=str(tmp_path)) as path:
            assert video.uri.endswith(Path(path).read_text())
            assert Path(path).suffix == Path(video.uri).suffix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "max_bytes", "reason"),
    [("v/b.mp4", 3, QuarantineReason.TOO_LARGE), ("v/x.mp4", 99, QuarantineReason.NOT_FOUND)],
)
def test_remote_failures(
    remote_folder: str, tmp_path: Path, name: str, max_bytes: int, reason: QuarantineReason
) -> None:
    with (
        pytest.raises(RecordError) as caught,
        local_copy(
            f"{remote_folder}/{name}",
            StorageConfig(),
            max_bytes=max_bytes,
            directory=str(tmp_path),
        ),
    ):
        pass
    assert (caught.value.reason, caught.value.stage) == (reason, "read")
    assert list(tmp_path.iterdir()) == []


def test_missing_credentials_stop_the_job_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no single video's fault, neither while listing nor while reading."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    storage = StorageConfig(endpoint_url="http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"through the environment.*anonymous"):
        uris("s3://bucket/videos", storage=storage)
    with (
        pytest.raises(SourceError, match="credentials"),
        local_copy("s3://bucket/videos/a.mp4", storage, max_bytes=9),
    ):
        pass


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with (
        pytest.raises(RecordError, match="not a regular file"),
        local_copy(canonical_uri(tmp_path / "pipe.mp4"), StorageConfig(), max_bytes=9),
    ):
        pass


def test_secrets_are_refused_in_a_configuration() -> None:
    with pytest.raises(ConfigError, match=r"options.*environment") as caught:
        StorageConfig.from_mapping({"options": {"secret_access_key": 1}})
    assert "environment" in str(caught.value)
    with pytest.raises(ConfigError, match="must begin with a dot"):
        SourceConfig.from_mapping({"uris": ["x"], "extensions": ["mp4"]})
