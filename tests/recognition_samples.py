"""A labelled token dataset whose tokens say what its videos are, and a server that chats."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import Committer, TokenDataset
from pipeline.records import ClipWindow, ListedVideo, TokenizedClip, UnitEnd, WorkUnit
from sweettok import SweetTok
from tests.token_samples import SOURCE, sample_lineage

COLOURS = ("red", "green", "blue", "dark grey")
VIDEOS_PER_COLOUR, CLIPS_PER_VIDEO = 8, 3
COMMON_WORD = 90  # a spatial word that every clip has more often than any other


def colour_words(number: int) -> tuple[int, int]:
    """The spatial words that videos of a colour have, and others have not."""
    return 2 * number, 2 * number + 1


def make_labelled_dataset(root: Path, tokenizer: str) -> str:
    """Videos of four colours, half of them "test"; a second label, "coin", is in no token."""
    model = SweetTok.from_pretrained(tokenizer)
    config = model.config
    lineage = sample_lineage(
        geometry=config.geometry,
        num_spatial_tokens=config.num_spatial_tokens,
        num_temporal_tokens=config.num_temporal_tokens,
        num_spatial_words=config.num_spatial_words,
        num_temporal_words=config.num_temporal_words,
    )
    dataset = TokenDataset.create_or_open(root, lineage)
    dataset.store_tokenizer(tokenizer)
    dataset.add_attributes(["colour", "coin", "split"])
    dataset.refresh()
    committer = Committer(dataset, "run")
    random = np.random.default_rng(0)
    for number in range(len(COLOURS) * VIDEOS_PER_COLOUR):
        colour = number % len(COLOURS)
        split = "test" if number // len(COLOURS) % 2 else "train"
        coin = "heads" if random.random() < 0.5 else "tails"
        attributes = {"colour": COLOURS[colour], "coin": coin, "split": split}
        video = ListedVideo(f"file:///videos/{number:03}.mp4", 1000, "1", attributes)
        unit = WorkUnit.from_listed(video)
        for index in range(CLIPS_PER_VIDEO):
            spatial = random.integers(40, 80, config.num_spatial_tokens)
            spatial[: len(spatial) // 2] = COMMON_WORD
            spatial[-4:] = 2 * colour_words(colour)
            temporal = random.integers(0, config.num_temporal_words, config.num_temporal_tokens)
            window = ClipWindow(index, tuple(range(9)), float(index), index + 1.0)
            tokens = (spatial.astype(np.int16), temporal.astype(np.int16))
            committer.add(TokenizedClip(unit, window, SOURCE, *tokens))
        committer.add(UnitEnd(unit, CLIPS_PER_VIDEO))
    committer.close()
    return str(root)


@dataclass
class ChatServer:
    """What a test says to the server and sees of it.

    Attributes:
        base_url: Its address.
        answer: From the text of a question to what is said.
        faults: Answers to the next requests instead: status, headers and body; status 0 hangs up.
        requests: Headers and body of every request.
    """

    base_url: str
    answer: Callable[[str], str]
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)


@contextmanager
def chat_server(answer: Callable[[str], str]) -> Iterator[ChatServer]:
    """An OpenAI-compatible server on the loopback, as much of it as a chat needs."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.requests.append((dict(self.headers), body))
                fault = state.faults.pop(0) if state.faults else None
            if self.path != "/v1/chat/completions":
                fault = (404, {}, b'{"error": "no such path"}')
            if fault is None:
                said = state.answer(body["messages"][0]["content"])
                choice = {"index": 0, "message": {"role": "assistant", "content": said}}
                fault = (200, {}, json.dumps({"choices": [choice]}).encode())
            status, headers, content = fault
            if not status:
                self.connection.close()
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked may have given up
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Keeps the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ChatServer(f"http://127.0.0.1:{server.server_port}/v1", answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
