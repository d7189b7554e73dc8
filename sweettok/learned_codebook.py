"""A codebook of free vectors, the usual alternative to words: trained, and kept in use.

The vectors are parameters, trained by the quantiser's losses. Two remedies make it the strong
baseline that it should be: the codes start at the centres of k-means over the latents of the first
training steps, several for each code, and codes that nothing chose for a while restart at latents
of the current batch. A code that restarts keeps its optimiser's moments; nothing chose it for 50
steps, so 0.9^50 = 0.5 % of the momentum of earlier choices is left.

Source: van den Oord et al., arXiv:1711.00937 (vector quantisation); Zeghidour et al.,
arXiv:2107.03312, section III-C (k-means start, replacing codes that are not used).
Differs: gradients instead of moving averages, so that it trains as the projection of words does.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.codebook import Codebook
from sweettok.similarity import nearest_codes

RESTART_EVERY_STEPS = 50  # a code that nothing chose for so many training steps starts anew
LATENTS_PER_CODE = 4  # collected over the first steps, then k-means
KMEANS_ITERATIONS = 10
PART_OF_SPEECH = "learned"  # what `SweetTok.words` calls a code without a word

_KMEANS_BYTES = 2**26
_JITTER = 0.01  # of latents that fill a codebook larger than the batch


class LearnedCodebook(Codebook):
    """`num_codes` free unit vectors.

    Args:
        num_codes: Number of codes v.
        code_dim: Dimension e of code space.
    """

    use_counts: Tensor
    num_steps: Tensor
    collected: Tensor
    num_collected: Tensor

    def __init__(self, num_codes: int, *, code_dim: int) -> None:
        names = tuple(f"code{index}" for index in range(num_codes))
        super().__init__(names, (PART_OF_SPEECH,) * num_codes, code_dim)
        self.vectors = nn.Parameter(F.normalize(torch.randn(num_codes, code_dim), dim=-1))
        self.register_buffer("use_counts", torch.zeros(num_codes, dtype=torch.int64))
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.int64))
        # Stored with the model: a run that is interrupted while it collects goes on exactly.
        self.register_buffer("collected", torch.zeros(LATENTS_PER_CODE * num_codes, code_dim))
        self.register_buffer("num_collected", torch.zeros((), dtype=torch.int64))
        self.refresh()

    def project(self) -> Float[Tensor, "v e"]:
        """Unit codes (differentiable)."""
        return F.normalize(self.vectors, dim=-1)

    @torch.no_grad()
    def adapt(self, unit_latents: Float[Tensor, "n e"]) -> None:
        """Starts at k-means centres; every so many steps restarts codes that nothing chose.

        The vectors are the first worker's where several train together, and the same latents and
        step give the same vectors: no random state is read. What happens at which step depends on
        numbers of latents alone, finite or not, so workers with batches of one size agree.
        """
        if not len(unit_latents):
            return
        step = int(self.num_steps)
        self.num_steps += 1
        if int(self.num_collected) < len(self.collected):
            self._collect(unit_latents)
            if step == 0 or int(self.num_collected) == len(self.collected):
                self._start()
        elif step % RESTART_EVERY_STEPS == 0:
            self._restart_unused(_finite(unit_latents), seed=step)

    @torch.no_grad()
    def record_use(self, ids: Int[Tensor, " n"]) -> None:
        """Counts which codes were chosen since the last restart."""
        self.use_counts += torch.bincount(ids[ids >= 0], minlength=self.num_words)

    def _collect(self, unit_latents: Float[Tensor, "n e"]) -> None:
        """Keeps latents for k-means, as many as there is room for, spread over the batch."""
        first = int(self.num_collected)
        count = min(len(unit_latents), len(self.collected) - first)
        chosen = torch.arange(count, device=unit_latents.device) * len(unit_latents) // count
        self.collected[first : first + count] = unit_latents[chosen].to(self.collected.dtype)
        self.num_collected += count

    def _start(self) -> None:
        """The centres of all collected latents; while they are few, these and near copies."""
        latents = _finite(self.collected[: int(self.num_collected)])
        if len(latents):
            is_whole = int(self.num_collected) == len(self.collected)
            start = _kmeans if is_whole else _first_codes
            self.vectors.copy_(start(latents, self.num_words))
        self._agree()

    def _restart_unused(self, unit_latents: Float[Tensor, "n e"], *, seed: int) -> None:
        counts = self.use_counts.clone()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
        if len(unit_latents):
            unused = (counts == 0).nonzero().squeeze(-1)
            chosen = _spread_choice(unit_latents, len(unused), seed=seed)
            self.vectors[unused] = chosen.to(self.vectors.dtype)
        self._agree()

    def _agree(self) -> None:
        """Counts anew, from the first worker's vectors."""
        self.use_counts.zero_()
        if torch.distributed.is_initialized():
            torch.distributed.broadcast(self.vectors, src=0)


def _finite(unit_latents: Float[Tensor, "n e"]) -> Float[Tensor, "m e"]:
    return unit_latents[unit_latents.isfinite().all(dim=-1)]


def _first_codes(unit_latents: Float[Tensor, "n e"], num_codes: int) -> Float[Tensor, "v e"]:
    return _spread_choice(unit_latents, num_codes, seed=0)


def _kmeans(unit_latents: Float[Tensor, "n e"], num_codes: int) -> Float[Tensor, "v e"]:
    """Unit centres of spherical k-means; a centre that loses all its latents stays where it is."""
    centres = _first_codes(unit_latents, num_codes)
    for _ in range(KMEANS_ITERATIONS):
        ids = nearest_codes(unit_latents, centres, _KMEANS_BYTES)
        sums = torch.zeros_like(centres).index_add_(0, ids, unit_latents)
        counts = torch.bincount(ids, minlength=num_codes).unsqueeze(-1)
        centres = torch.where(counts > 0, F.normalize(sums, dim=-1), centres)
    return centres


def _spread_choice(
    unit_latents: Float[Tensor, "n e"], count: int, *, seed: int
) -> Float[Tensor, "count e"]:
    """`count` different latents, as far as there are so many; repeats are moved a little."""
    generator = torch.Generator().manual_seed(seed)
    num_latents = len(unit_latents)
    rounds = -(-count // num_latents)
    order = [torch.randperm(num_latents, generator=generator) for _ in range(max(1, rounds))]
    chosen = unit_latents[torch.cat(order)[:count].to(unit_latents.device)]
    noise = torch.randn(chosen.shape, generator=generator).to(chosen)
    is_repeat = torch.arange(count, device=chosen.device).unsqueeze(-1) >= num_latents
    return F.normalize(torch.where(is_repeat, chosen + _JITTER * noise, chosen), dim=-1)
