"""Real worker processes with a gloo process group, and the values of small training runs."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing

from tests.tiny_models import tiny_config


def train_values(corpus: Path, lexicon: Path, output: Path) -> dict[str, Any]:
    """Plain values of a `TrainConfig` for the tiny corpus: four steps, frames cached."""
    return {
        "lexicon": str(lexicon),
        "model": tiny_config().to_mapping(),
        "data": {
            "source": {"uris": [str(corpus)]},
            "cache": {"directory": str(output / "frames")},
        },
        "training": {"phases": {"video": {"num_steps": 4, "batch_size_per_worker": 2}}},
        "run": {
            "storage_path": str(output / "checkpoints"),
            "output": str(output / "tokenizer"),
            "checkpoint_every_steps": 2,
            "log_every_steps": 2,
        },
    }


def run_workers(work: Callable[..., None], num_workers: int, *arguments: Any) -> None:
    """Runs `work(*arguments)` in processes that share a group; fails if one of them does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(
        _enter, (num_workers, port, work, arguments), nprocs=num_workers, join=True
    )


def _enter(
    rank: int, num_workers: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_workers
    )
    work(*arguments)
    torch.distributed.destroy_process_group()
