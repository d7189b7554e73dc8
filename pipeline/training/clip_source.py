"""Where a worker's training batches come from: one protocol; here the route from a frame cache.

The other route is `pipeline.training.clip_stream`; `pipeline.training.prepared_data` chooses.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.training.clip_sampler import ClipSampler
from pipeline.training.prefetching import prefetched


class ClipSource(Protocol):
    """Training batches of one worker, as many as are wanted."""

    def batches(
        self, first_step: int, num_batches: int
    ) -> Generator[UInt8[Tensor, "b t h w c"], None, None]:
        """Yields this worker's batches of steps `first_step`, `first_step + 1`, …, `num_batches`.

        From a cache, a step's batch is always the same one, whenever the run was restored; from a
        stream, only the seed of the epoch is. Closing the iterator ends its thread.
        """


class CachedClips:
    """Batches of a `ClipSampler`, read ahead in a thread."""

    def __init__(self, sampler: ClipSampler, prefetch_batches: int) -> None:
        self.sampler = sampler
        self.prefetch_batches = prefetch_batches

    def batches(
        self, first_step: int, num_batches: int
    ) -> Generator[UInt8[Tensor, "b t h w c"], None, None]:
        """See `ClipSource.batches`."""
        steps = range(first_step, first_step + num_batches)
        return prefetched(self._read(steps), self.prefetch_batches)

    def _read(self, steps: range) -> Generator[UInt8[Tensor, "b t h w c"], None, None]:
        for step in steps:
            yield torch.from_numpy(self.sampler.batch_at(step))
