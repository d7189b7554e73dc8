"""How a codebook was used, from counts and, where its codes are words, the codebook itself."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int

from pipeline.preview.report_data import CodebookUsage
from sweettok.codebook import Codebook
from sweettok.metrics import CodebookStatistics


def codebook_use(
    name: str, counts: Int[np.ndarray, " v"], codebook: Codebook | None
) -> CodebookUsage:
    """How a codebook was used; the codes of one that has no words are numbers."""
    statistics = CodebookStatistics.from_counts(torch.from_numpy(counts))
    if codebook is None:
        words = tuple(f"code {number}" for number in range(len(counts)))
        return CodebookUsage(name, words, counts, statistics.usage, statistics.perplexity)
    with torch.no_grad():
        codes = codebook.current_codes().float().cpu().numpy()
    return CodebookUsage(
        name,
        codebook.words,
        counts,
        statistics.usage,
        statistics.perplexity,
        parts_of_speech=codebook.parts_of_speech,
        codes=codes,
    )
