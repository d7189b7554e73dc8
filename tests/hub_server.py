"""A Hugging Face hub of one repository: what its client asks for when it fetches a snapshot."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_server(repository: str, directory: Path) -> Iterator[str]:
    """Serves `directory` as the one commit of `repository`, its branch main; gives the address."""
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            content = files.get(path.removeprefix(f"/{repository}/resolve/{COMMIT}/"))
            if path == f"/api/models/{repository}/revision/main":
                content = json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode()
            elif path == f"/api/models/{repository}/tree/{COMMIT}":
                content = json.dumps(
                    [
                        {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                        for name, data in files.items()
                    ]
                ).encode()
            if content is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{_etag(content)}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Keeps the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def cached_by_hand(cache: Path, repository: str, directory: Path) -> Path:
    """`directory` as the client's own cache holds a snapshot; returns the snapshot."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "blobs").mkdir()
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        blob = root / "blobs" / _etag(content)
        blob.write_bytes(content)
        link = snapshot / path.relative_to(directory)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(link.relative_to(root).parts) - 1)
        link.symlink_to(f"{up}blobs/{blob.name}")
    return snapshot


def _etag(content: bytes) -> str:
    """The name that git gives the content."""
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()
