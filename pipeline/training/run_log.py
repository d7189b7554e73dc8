"""The numbers of a run: one JSON line per log line or evaluation, and TensorBoard.

The JSON lines travel with the checkpoints: a restored run continues the file as it was at its
checkpoint, so that no step appears twice. TensorBoard is told to hide what it has of later steps.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

METRICS_FILE = "metrics.jsonl"


class RunLog:
    """Writes scalars and pictures; the first worker has the only one.

    Args:
        directory: A local directory for the JSON lines.
        tensorboard: Local directory of TensorBoard's event files; None writes none.
        restored: Directory of the checkpoint that the run goes on from.
        num_steps: Steps that it had done.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tensorboard: str | None = None,
        restored: Path | None = None,
        num_steps: int = 0,
    ) -> None:
        self.path = directory / METRICS_FILE
        if restored is not None:
            shutil.copyfile(restored / METRICS_FILE, self.path)
        else:
            self.path.write_text("", encoding="utf-8")
        self._writer = None
        if tensorboard is not None:
            self._writer = SummaryWriter(tensorboard, purge_step=num_steps + 1)

    def scalars(self, kind: str, phase: str, step: int, values: Mapping[str, float]) -> None:
        """One line of `values` after `step` optimiser steps.

        Args:
            kind: "train" or "evaluation".
            phase: Name of the phase.
            step: Optimiser steps done.
            values: Numbers by name.
        """
        row = {"kind": kind, "phase": phase, "step": step}
        row |= {name: float(f"{value:.6g}") for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{kind}/{name}", value, step)
            self._writer.flush()

    def pictures(
        self, step: int, pictures: UInt8[Tensor, "b h w c"], *, what: str = "reconstruction"
    ) -> None:
        """Pictures to TensorBoard, each under `what` and its number."""
        if self._writer is not None:
            for index, picture in enumerate(pictures):
                name = f"{what}/{index}"
                self._writer.add_image(name, picture.numpy(), step, dataformats="HWC")
            self._writer.flush()

    def copy_to(self, directory: Path) -> None:
        """Puts the JSON lines into a checkpoint."""
        shutil.copyfile(self.path, directory / METRICS_FILE)

    def close(self) -> None:
        """Ends TensorBoard's thread."""
        if self._writer is not None:
            self._writer.close()
