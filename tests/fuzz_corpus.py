"""A folder of good videos among many mutated ones, the same for the same seed.

The good ones come in several containers and under names that make trouble; what is mutated are
copies of them. Each mutation has its own random generator, so that file 123 is the same whatever
the number of files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.video_factory import make_video, numbered_frame

FORMS: dict[str, dict[str, object]] = {
    ".mp4": {"muxer_options": {"movflags": "faststart"}},
    ".mkv": {},
    ".webm": {"codec": "libvpx-vp9", "codec_options": {"deadline": "realtime", "cpu-used": "8"}},
    ".avi": {"codec": "mpeg4"},
    ".mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    ".ts": {"codec": "mpeg2video"},
    ".gif": {"codec": "gif", "pixel_format": "rgb8"},
}
ODD_NAMES = (
    "plain", "two words", "it's", 'a "quoted" one', "line\nbreak", "über größe", "видео", "映像",
    "😀", "100%25", "a#b?c=d&e", "[brackets]{braces}", "-dash", "tab\there", "back\\slash",
    "a" * 180, "semi;colon|pipe", "$HOME `id`", "trailing dot.", "mixed \udcff byte",
)  # fmt: skip
NUM_GOOD = len(ODD_NAMES)
NUM_FRAMES = 20


@dataclass(frozen=True)
class FuzzCorpus:
    """What was made.

    Attributes:
        folder: The folder to tokenize.
        good: Paths of the good videos in it.
        mutated: Paths of the others that must be listed, with the name of their mutation.
    """

    folder: Path
    good: list[Path]
    mutated: dict[Path, str]


Models = dict[str, bytes]
"""A good video in each container, by its extension."""

Mutation = Callable[[Path, Models, np.random.Generator], None]
"""Makes the file at a path, mostly out of the model of its extension."""


def make_fuzz_corpus(root: Path, num_mutated: int, seed: int = 0) -> FuzzCorpus:
    """Makes the folders below `root`: 20 good videos and `num_mutated` mutated ones."""
    folder = root / "corpus"
    models = {extension: _model(root / f"model{extension}") for extension in FORMS}
    good = [_good_file(folder, number, models) for number in range(NUM_GOOD)]
    (folder / "empty folder.mp4").mkdir()
    names = list(MUTATIONS)
    mutated = {}
    for number in range(num_mutated):
        random = np.random.default_rng([seed, number])
        name = names[number % len(names)]
        extension = list(FORMS)[int(random.integers(len(FORMS)))]
        stem = f"{ODD_NAMES[int(random.integers(NUM_GOOD))]} {number:04}"
        path = folder / f"mutated {number % 10}" / f"{stem}{extension}"
        path.parent.mkdir(exist_ok=True)
        MUTATIONS[name](path, models, random)
        mutated[path] = name
    return FuzzCorpus(folder, good, mutated)


def _model(path: Path) -> bytes:
    """A video with enough grain that most of its bytes are pictures and not headers."""
    random = np.random.default_rng(0)
    frames = [
        (numbered_frame(number) // 2 + random.integers(0, 64, (64, 96, 3))).astype(np.uint8)
        for number in range(NUM_FRAMES)
    ]
    make_video(path, frames=frames, **FORMS[path.suffix])  # type: ignore[arg-type]
    return path.read_bytes()


def _good_file(folder: Path, number: int, models: Models) -> Path:
    """A good video in one of several containers; every fourth one in a folder named like a file."""
    extension = list(FORMS)[number % len(FORMS)]
    parent = folder / "a folder.mp4" if number % 4 == 0 else folder
    parent.mkdir(parents=True, exist_ok=True)
    path = parent / f"{ODD_NAMES[number]}{extension}"
    path.write_bytes(models[extension])
    return path


def _truncated(path: Path, models: Models, random: np.random.Generator) -> None:
    content = models[path.suffix]
    path.write_bytes(content[: int(random.integers(1, len(content)))])


def _bits_flipped(path: Path, models: Models, random: np.random.Generator) -> None:
    damaged = np.frombuffer(models[path.suffix], np.uint8).copy()
    places = random.integers(0, len(damaged), int(4 ** random.integers(0, 6)))
    bits = random.integers(0, 8, len(places), np.uint8)
    np.bitwise_xor.at(damaged, places, np.uint8(1) << bits)
    path.write_bytes(damaged.tobytes())


def _header_flipped(path: Path, models: Models, random: np.random.Generator) -> None:
    """Damage where containers keep their sizes, counts and offsets."""
    damaged = bytearray(models[path.suffix])
    start = 0 if random.random() < 0.7 else max(0, len(damaged) - 400)
    for place in random.integers(start, min(len(damaged), start + 400), 6).tolist():
        damaged[place] = int(random.integers(256))
    path.write_bytes(damaged)


def _overwritten(value: int | None) -> Mutation:
    def mutate(path: Path, models: Models, random: np.random.Generator) -> None:
        content = models[path.suffix]
        start, end = sorted(random.integers(0, len(content) + 1, 2).tolist())
        noise = random.integers(0, 256, end - start, np.uint8).tobytes()
        middle = noise if value is None else bytes([value]) * (end - start)
        path.write_bytes(content[:start] + middle + content[end:])

    return mutate


def _shuffled(path: Path, models: Models, random: np.random.Generator) -> None:
    content = models[path.suffix]
    blocks = [content[start : start + 512] for start in range(0, len(content), 512)]
    path.write_bytes(b"".join(blocks[place] for place in random.permutation(len(blocks))))


def _wrong_extension(path: Path, models: Models, random: np.random.Generator) -> None:
    """A whole video under the name of another container: to be tokenized all the same."""
    others = sorted(models.keys() - {path.suffix})
    path.write_bytes(models[others[int(random.integers(len(others)))]])


def _no_video(path: Path, models: Models, random: np.random.Generator) -> None:
    contents = (
        b"this is a text\n" * 99,
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"PK\x03\x04" + random.bytes(999),
        b"<html><body>404</body></html>",
        b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        random.bytes(int(random.integers(1, 9999))),
        bytes(5000),
    )
    path.write_bytes(contents[int(random.integers(len(contents)))])


def _empty(path: Path, models: Models, random: np.random.Generator) -> None:
    path.write_bytes(b"")


def _dangling_link(path: Path, models: Models, random: np.random.Generator) -> None:
    path.symlink_to("nowhere")


def _link_to_itself(path: Path, models: Models, random: np.random.Generator) -> None:
    path.symlink_to(path.name)


def _no_file(path: Path, models: Models, random: np.random.Generator) -> None:
    """A pipe that nobody writes to: whoever opens it waits for ever."""
    os.mkfifo(path)


MUTATIONS: dict[str, Mutation] = {
    "truncated": _truncated,
    "bits flipped": _bits_flipped,
    "header flipped": _header_flipped,
    "zero-filled": _overwritten(0),
    "truncated again": _truncated,
    "bits flipped again": _bits_flipped,
    "noise": _overwritten(None),
    "header flipped again": _header_flipped,
    "shuffled": _shuffled,
    "wrong extension": _wrong_extension,
    "no video": _no_video,
    "empty": _empty,
    "dangling link": _dangling_link,
    "link to itself": _link_to_itself,
    "no file": _no_file,
}
