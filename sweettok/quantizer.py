"""Replaces each latent by its nearest word code, straight-through, with the losses that train it.

One class serves both codebooks. Similarity is the cosine, in float32 under any autocast.

Source: arXiv:2412.10443, section 3.3; van den Oord et al., arXiv:1711.00937 (straight-through,
commitment); Yu et al., arXiv:2310.05737 (entropy term).
Differs: one index per latent in the union vocabulary, as the paper describes; the released code
splits each latent in halves and stores three indices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sweettok.codebook import Codebook, WordCodebook
from sweettok.config import QuantizerConfig
from sweettok.errors import ShapeError
from sweettok.learned_codebook import LearnedCodebook
from sweettok.similarity import nearest_codes
from sweettok.vocabulary import Vocabulary

ENTROPY_SAMPLE_SIZE = 2048  # latents that enter the entropy term, at most

_ENTROPY_BYTES_PER_LOGIT = 32  # eight float32 matrices live at once in forward and backward
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class QuantizerOutput:
    """What quantising a batch of latents gives.

    Attributes:
        codes: float32 [b, n, e], unit codes; gradients flow straight through to the latents. NaN
            where the latent was not finite.
        ids: int64 [b, n], index of each code in the vocabulary; `NO_CODE` where the latent was not
            finite.
        loss: Scalar, weighted sum of the terms (0 in inference).
        terms: The unweighted terms by name: "commitment", "codebook" and, where it has a weight,
            "entropy"; empty in inference.
    """

    codes: Tensor
    ids: Tensor
    loss: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)


class WordQuantizer(nn.Module):
    """Quantises latents to the words of one vocabulary.

    Args:
        vocabulary: The words.
        config: Kind of codebook, code dimension, loss weights, memory bound.

    Attributes:
        refuses_missing: Whether inference checks at once that every latent got a code, which waits
            for the device. Whoever keeps several batches under way checks the ids later
            (`refuse_missing`).
    """

    def __init__(self, vocabulary: Vocabulary, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.refuses_missing = True
        self.codebook = create_codebook(vocabulary, config)

    def forward(self, latents: Float[Tensor, "b n e"]) -> QuantizerOutput:
        """Quantises `latents` of any scale; only their direction matters.

        A latent that is not finite gets no code: its id is `NO_CODE`, its code and the loss are
        NaN. A latent of length zero has no direction and takes the first word, as all tie.

        Raises:
            ShapeError: In inference (not compiled), a latent is not finite and `refuses_missing`.
        """
        with torch.autocast(latents.device.type, enabled=False):
            unit = F.normalize(latents.float(), dim=-1)
            if self.training:
                self.codebook.adapt(unit.detach().flatten(0, 1))
            codebook = self.codebook.current_codes().float()
            ids = nearest_codes(unit, codebook, self.config.distance_chunk_bytes)
            codes = _codes_of(ids, codebook)
            terms = {}
            if self.training and ids.numel():
                self.codebook.record_use(ids.flatten())
                terms = self._terms(unit, codes, codebook)
            elif self.refuses_missing and not torch.compiler.is_compiling():
                refuse_missing(ids)
            loss = self._weighted(terms, zero=unit.new_zeros(()))
            return QuantizerOutput(_StraightThrough.apply(unit, codes.detach()), ids, loss, terms)

    def lookup(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n e"]:
        """Codes of stored ids; the same values that `forward` gave when it chose them."""
        return F.embedding(ids, self.codebook.current_codes().float())

    def _terms(
        self, unit: Float[Tensor, "b n e"], codes: Float[Tensor, "b n e"], codebook: Tensor
    ) -> dict[str, Tensor]:
        terms = {
            "commitment": 1 - (unit * codes.detach()).sum(-1).mean(),
            "codebook": 1 - (unit.detach() * codes).sum(-1).mean(),
        }
        if self.config.entropy_weight:
            terms["entropy"] = entropy_loss(
                unit.flatten(0, 1),
                codebook,
                self.config.entropy_temperature,
                self.config.distance_chunk_bytes,
            )
        return terms

    def _weighted(self, terms: dict[str, Tensor], *, zero: Tensor) -> Float[Tensor, ""]:
        weights = {
            "commitment": self.config.commitment_weight,
            "codebook": self.config.codebook_weight,
            "entropy": self.config.entropy_weight,
        }
        return sum((weights[name] * term for name, term in terms.items()), start=zero)


def create_codebook(vocabulary: Vocabulary, config: QuantizerConfig) -> Codebook:
    """The codebook that `config` names, with one code for each word of `vocabulary`."""
    if config.codebook == "learned":
        return LearnedCodebook(vocabulary.num_words, code_dim=config.code_dim)
    return WordCodebook(
        vocabulary,
        code_dim=config.code_dim,
        hidden_dim=config.graph_hidden_dim,
        use_graph=config.codebook == "words",
    )


class _StraightThrough(torch.autograd.Function):
    """Forward: exactly the codes. Backward: the gradient goes to the latents unchanged.

    The usual `z + (code - z).detach()` rounds; here decoding stored ids equals the forward pass to
    the last bit.
    """

    @staticmethod
    def forward(ctx: Any, latents: Tensor, codes: Tensor) -> Tensor:  # noqa: ARG004
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


def _codes_of(ids: Int[Tensor, "b n"], codebook: Float[Tensor, "v e"]) -> Float[Tensor, "b n e"]:
    """The chosen codes, NaN where there is none."""
    codes = F.embedding(ids.clamp_min(0), codebook)
    return codes.masked_fill((ids < 0).unsqueeze(-1), math.nan)


def refuse_missing(ids: Int[Tensor, "b n"]) -> None:
    """Checks that every latent got a code.

    Raises:
        ShapeError: An id is `NO_CODE`.
    """
    num_missing = int((ids < 0).sum())
    if num_missing:
        raise ShapeError(
            f"{num_missing} of {ids.numel()} latents are not finite (NaN or infinite) and have no "
            "nearest word; check that the video and the weights are finite, and use float32 or "
            "bfloat16 rather than float16"
        )


def entropy_loss(
    unit_latents: Float[Tensor, "n e"],
    codes: Float[Tensor, "v e"],
    temperature: float,
    chunk_bytes: int = 256 * 2**20,
) -> Float[Tensor, ""]:
    """Mean entropy of the soft assignments minus the entropy of their mean, in units of log(v).

    Falls when each latent is sure of its word while all words are used. At most
    `ENTROPY_SAMPLE_SIZE` latents enter, in chunks that are computed again in the backward pass.

    Args:
        unit_latents: Latents of unit length.
        codes: Codes of unit length.
        temperature: Cosines are divided by it before the softmax.
        chunk_bytes: Upper bound of the matrices [latents, v] held at one time, forward and
            backward, in bytes (at least one latent's).
    """
    sample = _spread_sample(unit_latents, ENTROPY_SAMPLE_SIZE)
    rows = max(1, chunk_bytes // (codes.shape[0] * _ENTROPY_BYTES_PER_LOGIT))
    chunks = sample.split(rows)
    sample_entropy = sample.new_zeros(())
    mean_probabilities = sample.new_zeros(codes.shape[0])
    for chunk in chunks:
        if len(chunks) == 1:
            entropies, probabilities = _soft_assignments(chunk, codes, temperature)
        else:
            entropies, probabilities = checkpoint(
                _soft_assignments,
                chunk,
                codes,
                temperature,
                use_reentrant=False,
                preserve_rng_state=False,
            )
        sample_entropy = sample_entropy + entropies / len(sample)
        mean_probabilities = mean_probabilities + probabilities / len(sample)
    batch_entropy = -(mean_probabilities * (mean_probabilities + 1e-9).log()).sum()
    return (sample_entropy - batch_entropy) / math.log(codes.shape[0])


def _soft_assignments(
    unit_latents: Float[Tensor, "n e"], codes: Float[Tensor, "v e"], temperature: float
) -> tuple[Float[Tensor, ""], Float[Tensor, " v"]]:
    """Sum of the latents' entropies and of their probabilities."""
    log_probabilities = (unit_latents @ codes.T / temperature).log_softmax(dim=-1)
    probabilities = log_probabilities.exp()
    return -(probabilities * log_probabilities).sum(), probabilities.sum(0)


def _spread_sample(unit_latents: Float[Tensor, "n e"], size: int) -> Float[Tensor, "size e"]:
    """`size` of the latents, in golden-ratio steps: even, and in no step with rows or columns."""
    num_latents = unit_latents.shape[0]
    if num_latents <= size:
        return unit_latents
    steps = torch.arange(size, device=unit_latents.device, dtype=torch.float64)
    return unit_latents[((steps * _GOLDEN_RATIO).frac() * num_latents).long()]
