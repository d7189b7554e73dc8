"""Seeds of a run's many random draws, made from one."""

from __future__ import annotations

import numpy as np


def seed_of(*parts: int) -> int:
    """A seed that differs where any part does: the run's seed, a step, a worker, and so on."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
