"""Hostile manifests, shards, datasets and texts: each contained, as SECURITY.md promises."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import shutil
import socket
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.cli import RedactingFormatter
from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, QuarantineReason, RecordError, SourceError
from pipeline.sources import SourceConfig, find_video, list_videos
from pipeline.storage import StorageConfig, local_copy
from pipeline.web_access import RefusedAddressError, check_address
from sweettok.errors import CheckpointError
from sweettok.tokenizer_manifest import verified_manifest
from sweettok.uri_secrets import redacted
from tests.token_samples import commit_all, corpus, flat, sample_lineage

OUTSIDE = (
    "/etc/passwd",
    "../private/a.mp4",
    "videos/../../private/a.mp4",
    "~/.ssh/id_ed25519",
    "~root/.bashrc",
    "file:///etc/passwd",
    "file://{root}/corpus/../private/a.mp4",
    "file://{root}/corpus/%2e%2e/private/a.mp4",
    "videos/../..//private/a.mp4",
    "{root}/corpus-of-others/a.mp4",
    "link.mp4",
    "linked-folder/a.mp4",
    "local:///etc/passwd",
    "FILE:///etc/passwd",
    "memory://private/a.mp4",
    "simplecache::file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data/",
    "https://allowed.example.evil.example/a.mp4",
    "https://allowed.example@evil.example/a.mp4",
    "https://evil.example/#@allowed.example/videos/a.mp4",
    "https://allowed.example:8443/videos/a.mp4",
    "https://allowed.example/videos/../secret/a.mp4",
    "https://allowed.example/videos/%2e%2e/secret/a.mp4",
    "https://allowed.example/videos/%2E./secret/a.mp4",
    "https://allowed.example/videos\\..\\secret/a.mp4",
    "https://allowed.example/videos-of-others/a.mp4",
    "http://allowed.example/videos/a.mp4",
    "s3://bucket/videosecrets/a.mp4",
    "s3://bucket/videos/../secret/a.mp4",
    "s3://bucket",
    "s3://another/videos/a.mp4",
    "s3a://bucket/videos/a.mp4",
    "ftp://bucket/videos/a.mp4",
)
INSIDE = (
    "a.mp4",
    "videos/./a.mp4",
    "videos/../a.mp4",
    "{root}/corpus/videos/a.mp4",
    "file://{root}/shared/a.mp4",
    "file://{root}/one.mp4",
    "s3://bucket/videos/a.mp4",
    "s3://bucket/videos/deep/er/a.mp4",
    "https://allowed.example/videos/a.mp4",
    "https://Allowed.example/videos/a.mp4?part=../x",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`corpus`, which a manifest may name, among folders that it may not."""
    for name in ("corpus/videos", "private", "corpus-of-others", "shared"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.mp4").write_bytes(b"content")
    (tmp_path / "one.mp4").write_bytes(b"content")
    (tmp_path / "corpus/link.mp4").symlink_to(tmp_path / "private/a.mp4")
    (tmp_path / "corpus/linked-folder").symlink_to(tmp_path / "private")
    return tmp_path


def listed(folder: Path, row: str) -> list[str]:
    """The URIs that a manifest of one row gives; no store is asked about it."""
    manifest = folder / "corpus" / "list.jsonl"
    manifest.write_text(json.dumps({"uri": row.replace("{root}", str(folder))}) + "\n")
    config = SourceConfig.from_mapping(
        {
            "uris": [f"{folder}/shared/*.mp4"],
            "manifests": [{"uri": str(manifest), "look_up": "never"}],
            "allowed_roots": [
                "s3://bucket/videos", "https://allowed.example/videos/", f"{folder}/one.mp4"
            ],
        }
    )  # fmt: skip
    return [video.uri for video in list_videos(config)]


@pytest.mark.parametrize("row", OUTSIDE)
def test_a_manifest_cannot_name_what_lies_outside_its_roots(folder: Path, row: str) -> None:
    with pytest.raises(SourceError, match=r"line 1 is .*source\.allowed_roots") as caught:
        listed(folder, row)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("row", INSIDE)
def test_a_manifest_may_name_what_lies_inside(folder: Path, row: str) -> None:
    shared = (folder / "shared" / "a.mp4").as_uri()
    found = [uri for uri in listed(folder, row) if uri != shared]
    assert len(found) == ("shared" not in row)


class _Redirecting(BaseHTTPRequestHandler):
    """Sends everybody to where a cloud keeps a machine's credentials."""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", "http://169.254.169.254/latest/meta-data/iam/a.mp4")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def redirecting_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def test_no_connection_reaches_a_metadata_service() -> None:
    """By its address in several spellings, and by a redirect from a host that may be asked."""
    with redirecting_server() as redirecting:
        for address in (
            "http://169.254.169.254/a.mp4",
            "http://[fe80::1]/a.mp4",
            "http://[::ffff:169.254.169.254]/a.mp4",
            "http://[fd00:ec2::254]/a.mp4",
            "http://0xa9fea9fe/a.mp4",
            "http://0.0.0.0/a.mp4",
            f"{redirecting}/a.mp4",
        ):
            with (
                pytest.raises(RecordError) as caught,
                local_copy(address, StorageConfig(attempts=1), max_bytes=99),
            ):
                pass
            assert caught.value.reason == QuarantineReason.PERMISSION, address
            assert "link-local or metadata" in str(caught.value)


def test_a_name_is_judged_by_what_it_resolves_to() -> None:
    info = socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
    for *_, address in info:
        check_address(str(address[0]))
    for refused in ("169.254.0.1", "fe80::1%eth0", "2002:a9fe:a9fe::1", "100.100.100.200", "::"):
        with pytest.raises(RefusedAddressError):
            check_address(refused)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_compressed_manifest_that_unfolds_to_a_gigabyte_is_one_error(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"list.{kind}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"uri\n" if kind == "csv" else b"")
        for _ in range(64):
            file.write(b"a" * 2**24)
    assert path.stat().st_size < 2**23
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"line \d has more than 4194304 characters"):
            list(list_videos(SourceConfig.from_mapping({"manifests": [str(path)]})))
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_members_of_a_shard_are_read_in_place_whatever_they_are_called(tmp_path: Path) -> None:
    names = ["../../escaped.mp4", "/etc/cron.d/escaped.mp4", "a/../../escaped.mp4", "~/b.mp4"]
    shard = tmp_path / "shards" / "0.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 7
            archive.addfile(info, io.BytesIO(b"content"))
        for kind, name in ((tarfile.SYMTYPE, "s.mp4"), (tarfile.LNKTYPE, "h.mp4")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        device = tarfile.TarInfo("d.mp4")
        device.type = tarfile.CHRTYPE
        archive.addfile(device)
    before = set(tmp_path.rglob("*"))
    videos = list(list_videos(SourceConfig.from_mapping({"shards": {"uris": [str(shard)]}})))
    assert len(videos) == 7
    for video in videos:
        if video.fault is not None:
            assert video.fault.reason == QuarantineReason.READ_ERROR
            continue
        with local_copy(
            video.uri, StorageConfig(), max_bytes=99, member=video.member, directory=str(tmp_path)
        ) as path:
            assert Path(path).parent == tmp_path
            assert Path(path).read_bytes() == b"content"
    assert [video.fault is not None for video in videos] == [False] * 4 + [True] * 3
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name", ["../escaped", "a/../../escaped", "/tmp/escaped", "", ".", "a//b", "a\\..\\b", "a\0b"]
)
def test_a_datasets_tokenizer_cannot_be_written_beside_its_cache(tmp_path: Path, name: str) -> None:
    root = tmp_path / "tokens"
    dataset = TokenDataset.create_or_open(root, sample_lineage())
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "file").write_bytes(b"content")
    dataset.store_tokenizer(tmp_path / "tokenizer")
    (manifest,) = root.glob("_tokenizer/*/manifest.json")
    (sha256,) = json.loads(manifest.read_text()).values()
    manifest.write_text(json.dumps({name: sha256}))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match="outside of its folder"):
        dataset.tokenizer_files(tmp_path / "cache")
    assert set(tmp_path.rglob("*")) == before


def test_what_is_no_list_of_files_is_one_error(tmp_path: Path) -> None:
    dataset = TokenDataset.create_or_open(tmp_path / "tokens", sample_lineage())
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "file").write_bytes(b"content")
    dataset.store_tokenizer(tmp_path / "tokenizer")
    (manifest,) = (tmp_path / "tokens").glob("_tokenizer/*/manifest.json")
    for content in ("", "[]", "3", '{"a":'):
        manifest.write_text(content)
        with pytest.raises(DatasetError, match="is no list of files"):
            dataset.tokenizer_files(tmp_path / "cache")


def test_a_datasets_log_cannot_name_files_outside_of_the_dataset(tmp_path: Path) -> None:
    commit_all(tmp_path / "private", flat(corpus(3).values()))
    commit_all(tmp_path / "tokens", flat(corpus(1).values()))
    log = max((tmp_path / "tokens" / "_delta_log").glob("*.json"))
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    target = next((tmp_path / "private").glob("part-*.parquet"))
    for path in (
        f"../private/{target.name}",
        f"%2e%2e/private/{target.name}",
        f"%252e%252e/private/{target.name}",
        str(target),
        target.as_uri(),
    ):
        changed = {"path": path, "size": target.stat().st_size}
        lines = [
            json.dumps({"add": entry["add"] | changed} if "add" in entry else entry)
            for entry in entries
        ]
        log.write_text("\n".join(lines) + "\n")
        with pytest.raises(DatasetError):
            TokenDataset.open(tmp_path / "tokens").rows().read_all()


def test_a_row_of_a_dataset_is_looked_for_below_the_roots_only(folder: Path) -> None:
    inside, outside = folder / "corpus" / "videos" / "a.mp4", folder / "private" / "a.mp4"
    (listed_inside,) = list_videos(SourceConfig(uris=(str(inside),)))
    roots = [str(folder / "corpus")]
    fingerprint = listed_inside.fingerprint
    unit = find_video(inside.as_uri(), fingerprint, StorageConfig(), roots=roots)
    assert unit.uri == inside.as_uri()
    for uri in (
        outside.as_uri(),
        (folder / "corpus" / "link.mp4").as_uri(),
        f"{inside.as_uri()}#/../../../private/a.mp4",
        "http://169.254.169.254/a.mp4",
    ):
        with pytest.raises(SourceError, match="lies outside of"):
            find_video(uri, fingerprint, StorageConfig(), roots=roots)


def test_a_checkpoint_cannot_name_files_outside_or_hold_code(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    copy = tmp_path / "tokenizer"
    shutil.copytree(tokenizer_directory, copy)
    (copy / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/escaped'\ntR.")
    with pytest.raises(CheckpointError, match="altered"):
        verified_manifest(copy)
    shutil.rmtree(copy / "lexicon")
    (copy / "lexicon").symlink_to("/etc")
    with pytest.raises(CheckpointError):
        verified_manifest(copy)


SECRETS = {
    "https://someone:hunter22@store.example/a": "hunter22",
    "s3://key:s3cr3t/with+slash@bucket/a": "s3cr3t",
    "GET https://b.s3/k?X-Amz-Signature=abcdef&X-Amz-Date=1 failed": "abcdef",
    "url='https://b/k?x=1&sig=abc%2Fdef' (403)": "abc%2Fdef",
    "https://b/k?X-Amz-Security-Token=qwertz": "qwertz",
    "https://b/k?api_key=qwertz#top": "qwertz",
    "the store said: 7hjk-not-in-a-uri-4711": "7hjk-not-in-a-uri-4711",
}


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_never_reaches_a_log_line_or_a_traceback(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "7hjk-not-in-a-uri-4711")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter("%(message)s"))
    logger = logging.Logger("redacting")
    logger.addHandler(handler)
    try:
        raise OSError(text)
    except OSError:
        logger.exception("reading failed: %s", text)
    assert SECRETS[text] not in stream.getvalue()
    assert "***" in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_what_is_no_secret_stays_readable() -> None:
    for text in (
        "https://host:8443/videos/a.mp4?part=3&v=2",
        "s3://bucket/token/key=5/a.mp4",
        "11:32:07 3 of 40 videos done: file:///data/über größe.mp4",
        "a@b.example wrote https://host/path",
        os.environ.get("PATH", ""),
    ):
        assert redacted(text) == text
