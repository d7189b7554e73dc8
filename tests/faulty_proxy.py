"""A proxy before a real S3 server that treats some requests as a bad day on the internet does.

It forwards everything as it is, except a stated share of the requests. Each of those meets one
fault, drawn from a seeded generator:

* "slow_down": answered with 503 SlowDown, never forwarded;
* "reset": the connection is reset before the request is forwarded;
* "cut_reply": forwarded and done by the server, but the connection is reset instead of an answer;
* "cut_body": the answer is reset in the middle of its body;
* "stall": forwarded and answered, some seconds late.

The proxy is a process of its own: a client library that holds Python's lock while it waits for an
answer would otherwise wait for a proxy that cannot run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.job_runs import REPOSITORY

FAULTS = ("slow_down", "reset", "cut_reply", "cut_body", "stall")
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
_CONTROL = "/-proxy/"
_HOP_HEADERS = ("connection", "expect", "keep-alive", "transfer-encoding")


class FaultyProxy:
    """A running proxy; a context manager.

    Args:
        endpoint_url: The server behind it.
        fault_fraction: Share of the requests that meet a fault, in [0, 1].
        stall_s: How late a stalled answer is, in seconds.
        seed: Same seed, same sequence of faults.
        drops_conditions: Whether a conditional request reaches the server without its condition.

    Attributes:
        url: The endpoint that clients use.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        fault_fraction: float = 0.0,
        stall_s: float = 5.0,
        seed: int = 0,
        drops_conditions: bool = False,
    ) -> None:
        settings = [endpoint_url, str(fault_fraction), str(stall_s), str(seed)]
        settings += ["drops_conditions"] * drops_conditions
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faulty_proxy", *settings],
            cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def counts(self) -> dict[str, int]:
        """How many requests came, and how many met each fault."""
        return dict(self._control("counts"))

    def cut_next(self, method: str, pattern: str) -> None:
        """Cuts the reply to the next `method` request whose path contains `pattern`."""
        self._control(f"cut?method={method}&pattern={urllib.parse.quote(pattern)}")

    def _control(self, command: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{_CONTROL}{command}", timeout=30) as answer:
            return json.load(answer)


class _Faults:
    """Decides the fate of every request."""

    def __init__(self, fraction: float, stall_s: float, seed: int) -> None:
        self.stall_s = stall_s
        self._fraction = fraction
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._cut: tuple[str, str] | None = None

    def draw(self, method: str, path: str) -> str | None:
        """The fault that this request meets; None for most."""
        with self._lock:
            self._counts["requests"] += 1
            fault = None
            if self._random.random() < self._fraction:
                fault = self._random.choice(FAULTS)
            if self._cut is not None and method == self._cut[0] and self._cut[1] in path:
                self._cut, fault = None, "cut_reply"
            if fault is not None:
                self._counts[fault] += 1
            return fault

    def control(self, command: str) -> dict[str, int]:
        """Answers the one who started the proxy."""
        parts = urllib.parse.urlsplit(command)
        with self._lock:
            if parts.path == "cut":
                values = urllib.parse.parse_qs(parts.query)
                self._cut = (values["method"][0], values["pattern"][0])
            return dict(self._counts)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, upstream: tuple[str, int], faults: _Faults, dropped_headers: tuple[str, ...]
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faults = faults
        self.dropped_headers = (*_HOP_HEADERS, *dropped_headers)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def forward(self) -> None:
        """Handles one request of any method."""
        body = self._read_body()
        if self.path.startswith(_CONTROL):
            counts = self.server.faults.control(self.path.removeprefix(_CONTROL))
            self._answer(200, [], json.dumps(counts).encode())
            return
        fault = self.server.faults.draw(self.command, self.path)
        if fault == "slow_down":
            self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        if fault == "reset":
            self._reset()
            return
        if fault == "stall":
            time.sleep(self.server.faults.stall_s)
        status, headers, content = self._ask_server(body)
        if fault == "cut_reply":
            self._reset()
            return
        self._answer(status, headers, content, cut_body=fault == "cut_body")
        if fault == "cut_body":
            self._reset()

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = forward  # noqa: N815

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _ask_server(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=120)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in self.server.dropped_headers
        }
        if body:
            headers["Content-Length"] = str(len(body))
        try:
            connection.request(self.command, self.path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut_body: bool = False
    ) -> None:
        self.send_response_only(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        if "content-length" not in names and status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if cut_body else content)

    def _reset(self) -> None:
        """Ends the connection with a reset, as a broken middlebox does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing: the counts are enough."""


def main(endpoint_url: str, fraction: str, stall_s: str, seed: str, *options: str) -> None:
    """Serves until it is terminated; says its address first."""
    address = urllib.parse.urlsplit(endpoint_url)
    faults = _Faults(float(fraction), float(stall_s), int(seed))
    dropped = ("if-none-match", "if-match") if options else ()
    server = _Server((address.hostname or "", address.port or 80), faults, dropped)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
