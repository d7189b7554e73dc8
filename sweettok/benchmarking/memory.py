"""Peak memory of one encoding, in a process of its own: a maximum never falls again.

    python -m sweettok.benchmarking.memory ours config.yaml

prints two numbers, in bytes: resident memory with the model loaded, and the peak after one clip.
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

from sweettok.config import SweetTokConfig
from sweettok.strict_config import load_config

_KIB = 1024


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


def peak_memory(side: str, config: SweetTokConfig, num_edges: int) -> PeakMemory:
    """Runs one encoding of `side` ("ours" or "restatement") in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        command = [sys.executable, "-m", "sweettok.benchmarking.memory", side, str(path)]
        run = subprocess.run(
            [*command, str(num_edges), str(torch.get_num_threads())],
            check=True,
            capture_output=True,
            text=True,
        )
    loaded, peak = map(int, run.stdout.split())
    return PeakMemory(loaded, peak)


def _encode_once(side: str, config: SweetTokConfig, num_edges: int) -> tuple[int, int]:
    from sweettok.benchmarking.subjects import encoder_of, random_lexicon, random_video

    encode: Callable[[Any], Any] = encoder_of(side, config, random_lexicon(config, num_edges))
    video = random_video(config.geometry, batch=1)
    loaded = _resident_bytes()
    encode(video)
    return loaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def _main(side: str, path: str, num_edges: str, num_threads: str) -> None:
    torch.set_num_threads(int(num_threads))
    loaded, peak = _encode_once(side, load_config(SweetTokConfig, path), int(num_edges))
    sys.stdout.write(f"{loaded} {peak}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
