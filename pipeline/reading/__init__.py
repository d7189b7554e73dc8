"""Reading token datasets back: exact, shuffled, sharded, resumable.

positions         sets of positions in an epoch's order: what was read, what is left
order             the order itself, a pure function of (seed, epoch)
row_groups        finding and reading row groups, with retries and filters
row_group_cache   decoded row groups on a local disk
samples           tokens as arrays, batches as tensors
reader            one dataset at a pinned version
mixture           several of them in chosen proportions
progress          the state of a checkpoint: one rank's place, elastic over ranks
loader            batches for a training loop
"""

from pipeline.reading.loader import LoaderConfig, TokenIterable, TokenLoader
from pipeline.reading.mixture import Mixture
from pipeline.reading.positions import Positions
from pipeline.reading.reader import OrderConfig, TokenReader
from pipeline.reading.row_group_cache import RowGroupCache
from pipeline.reading.samples import TokenBatch

__all__ = [
    "LoaderConfig",
    "Mixture",
    "OrderConfig",
    "Positions",
    "RowGroupCache",
    "TokenBatch",
    "TokenIterable",
    "TokenLoader",
    "TokenReader",
]
