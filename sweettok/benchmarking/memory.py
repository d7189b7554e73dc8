"""Peak memory of one encoding, in a process of its own: a maximum never falls again.

    python -m sweettok.benchmarking.memory ours subject.yaml 1

(the side, a `MemorySubject`, the number of threads) prints two numbers, in bytes: resident memory
with the model loaded, and the peak after one clip.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweettok.benchmarking.restatement import GraphConfig
from sweettok.config import SweetTokConfig
from sweettok.strict_config import StrictConfig, load_config

_KIB = 1024


class MemorySubject(StrictConfig):
    """What the measuring process builds.

    Attributes:
        model: Sizes of the tokenizer.
        graph: Sizes of the restatement's graphs.
    """

    model: SweetTokConfig
    graph: GraphConfig


@dataclass(frozen=True)
class PeakMemory:
    """Resident memory of a process that encodes one clip.

    Attributes:
        loaded_bytes: With the model and the clip in memory, before encoding.
        peak_bytes: The most it ever was.
    """

    loaded_bytes: int
    peak_bytes: int

    @property
    def encoding_bytes(self) -> int:
        """What encoding added."""
        return self.peak_bytes - self.loaded_bytes


def peak_memory(side: str, subject: MemorySubject) -> PeakMemory:
    """Runs one encoding of `side` ("ours" or "restatement") in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subject.yaml"
        path.write_text(subject.to_yaml(), encoding="utf-8")
        command = [sys.executable, "-m", "sweettok.benchmarking.memory", side, str(path)]
        run = subprocess.run(
            [*command, str(torch.get_num_threads())],
            check=True,
            capture_output=True,
            text=True,
        )
    loaded, peak = map(int, run.stdout.split())
    return PeakMemory(loaded, peak)


def _encode_once(side: str, subject: MemorySubject) -> tuple[int, int]:
    from sweettok.benchmarking.subjects import encoder_of, random_lexicon, random_video

    lexicon = random_lexicon(subject.model, subject.graph)
    encode: Callable[[Any], Any] = encoder_of(side, subject.model, lexicon, subject.graph)
    video = random_video(subject.model.geometry, batch=1)
    loaded = _resident_bytes()
    encode(video)
    return loaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _main(side: str, path: str, num_threads: str) -> None:
    torch.set_num_threads(int(num_threads))
    loaded, peak = _encode_once(side, load_config(MemorySubject, path))
    sys.stdout.write(f"{loaded} {peak}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
