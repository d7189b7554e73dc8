"""Which clips a page shows first: where it went worst, and where it went best."""

from __future__ import annotations

from collections.abc import Sequence

WORST, BEST = "worst", "best"


def choose_clips(psnr_db: Sequence[float], num_worst: int, num_best: int) -> dict[int, str]:
    """Positions of the clips to show and why, worst first; no clip is shown twice.

    Equal clips come in the order of the evaluation.
    """
    order = sorted(range(len(psnr_db)), key=lambda position: psnr_db[position])
    worst = order[:num_worst]
    best = order[len(worst) :][::-1][:num_best]
    return dict.fromkeys(worst, WORST) | dict.fromkeys(best, BEST)
