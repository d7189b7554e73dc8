"""How the codebooks are used between two log lines, over all workers."""

from __future__ import annotations

import torch

from pipeline.training.parallel import sum_over_workers
from sweettok.metrics import CodebookStatistics
from sweettok.tokens import Tokens


class UsageMeter:
    """Counts the words that were chosen since it was last read.

    Args:
        num_spatial_words, num_temporal_words: Sizes of the codebooks.
        device: Where the ids are; counting never waits for it.
    """

    def __init__(
        self,
        num_spatial_words: int,
        num_temporal_words: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sizes = (num_spatial_words, num_temporal_words)
        # The last place is for latents without a code: those of a loss that is no longer a number.
        self._counts = torch.zeros(sum(self._sizes) + 1, dtype=torch.int64, device=device)

    def add(self, tokens: Tokens) -> None:
        """Counts one batch."""
        first, second = self._sizes
        spatial, temporal = tokens.spatial.flatten(), tokens.temporal.flatten()
        ids = torch.cat([spatial, temporal + first])
        ids = torch.where(torch.cat([spatial, temporal]) < 0, first + second, ids)
        self._counts.index_add_(0, ids, torch.ones_like(ids))

    def read(self) -> tuple[CodebookStatistics, CodebookStatistics]:
        """Spatial and temporal statistics of all workers since the last reading; starts anew.

        All workers call this together.
        """
        counts = sum_over_workers(self._counts)
        self._counts = torch.zeros_like(self._counts)
        spatial, temporal, _ = counts.split([*self._sizes, 1])
        return CodebookStatistics.from_counts(spatial), CodebookStatistics.from_counts(temporal)


def usage_scalars(statistics: CodebookStatistics, name: str) -> dict[str, float]:
    """The numbers of one codebook as they are logged: nothing for a codebook that was not used."""
    if not int(statistics.counts.sum()):
        return {}
    return {
        f"usage/{name}": statistics.usage,
        f"perplexity/{name}": statistics.perplexity,
        f"dead_share/{name}": statistics.num_dead / len(statistics.counts),
    }


def describe_usage(statistics: CodebookStatistics, name: str) -> str:
    """The same for a log line."""
    if not int(statistics.counts.sum()):
        return f"{name} not used"
    dead = statistics.num_dead / len(statistics.counts)
    return (
        f"{name} used {statistics.usage:.0%} perplexity {statistics.perplexity:.0f} dead {dead:.0%}"
    )
