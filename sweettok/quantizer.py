"""Replaces each latent by its nearest word code, straight-through, with the losses that train it.

One class serves both codebooks. Similarity is the cosine; the similarity matrix is computed in
chunks so that it never exceeds a stated number of bytes.

Source: arXiv:2412.10443, section 3.3; van den Oord et al., arXiv:1711.00937 (straight-through,
commitment); Yu et al., arXiv:2310.05737 (entropy term).
Differs: one index per latent in the union vocabulary, as the paper describes; the released code
splits each latent in halves and stores three indices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.codebook import WordCodebook
from sweettok.config import QuantizerConfig
from sweettok.lexicon import Vocabulary

ENTROPY_SAMPLE_SIZE = 2048  # latents that enter the entropy term, at most


@dataclass(frozen=True)
class QuantizerOutput:
    """What quantising a batch of latents gives.

    Attributes:
        codes: float [b, n, e], unit codes; gradients flow straight through to the latents.
        ids: int64 [b, n], index of each code in the vocabulary.
        loss: Scalar, weighted sum of commitment, codebook and entropy terms (0 in inference).
    """

    codes: Tensor
    ids: Tensor
    loss: Tensor


class WordQuantizer(nn.Module):
    """Quantises latents to the words of one vocabulary.

    Args:
        vocabulary: The words.
        config: Code dimension, loss weights, memory bound.
    """

    def __init__(self, vocabulary: Vocabulary, config: QuantizerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = WordCodebook(
            vocabulary, code_dim=config.code_dim, hidden_dim=config.graph_hidden_dim
        )

    def forward(self, latents: Float[Tensor, "b n e"]) -> QuantizerOutput:
        """Quantises `latents` of any scale; only their direction matters."""
        codebook = self.codebook.current_codes()
        unit = F.normalize(latents.float(), dim=-1)
        ids = nearest_codes(unit.detach(), codebook.detach(), self.config.distance_chunk_bytes)
        codes = F.embedding(ids, codebook)
        loss = unit.new_zeros(())
        if self.training and ids.numel():
            loss = self._loss(unit, codes, codebook)
        return QuantizerOutput(_StraightThrough.apply(unit, codes.detach()), ids, loss)

    def lookup(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n e"]:
        """Codes of stored ids; the same values that `forward` gave when it chose them."""
        return F.embedding(ids, self.codebook.current_codes())

    def _loss(
        self, unit: Float[Tensor, "b n e"], codes: Float[Tensor, "b n e"], codebook: Tensor
    ) -> Float[Tensor, ""]:
        commitment = 1 - (unit * codes.detach()).sum(-1).mean()
        codebook_term = 1 - (unit.detach() * codes).sum(-1).mean()
        loss = (
            self.config.commitment_weight * commitment + self.config.codebook_weight * codebook_term
        )
        if self.config.entropy_weight:
            loss = loss + self.config.entropy_weight * entropy_loss(
                unit.flatten(0, 1), codebook, self.config.entropy_temperature
            )
        return loss


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


@torch.no_grad()
def nearest_codes(
    unit_latents: Float[Tensor, "b n e"], codes: Float[Tensor, "v e"], chunk_bytes: int
) -> Int[Tensor, "b n"]:
    """Index of the code with the largest cosine for each unit latent, in float32.

    Args:
        unit_latents: Latents of unit length.
        codes: Codes of unit length.
        chunk_bytes: Upper bound of the similarity matrix held at one time.
    """
    flat = unit_latents.reshape(-1, unit_latents.shape[-1])
    rows = max(1, chunk_bytes // (codes.shape[0] * codes.element_size()))
    with torch.autocast(flat.device.type, enabled=False):
        chunks = [(chunk @ codes.T).argmax(dim=-1) for chunk in flat.split(rows)]
    ids = torch.cat(chunks) if chunks else flat.new_zeros(0, dtype=torch.int64)
    return ids.view(unit_latents.shape[:-1])


def entropy_loss(
    unit_latents: Float[Tensor, "n e"], codes: Float[Tensor, "v e"], temperature: float
) -> Float[Tensor, ""]:
    """Mean entropy of the soft assignments minus the entropy of their mean, in units of log(v).

    Falls when each latent is sure of its word while all words are used.
    """
    step = -(-unit_latents.shape[0] // ENTROPY_SAMPLE_SIZE)
    logits = unit_latents[::step] @ codes.T / temperature
    log_probabilities = logits.log_softmax(dim=-1)
    probabilities = log_probabilities.exp()
    sample_entropy = -(probabilities * log_probabilities).sum(-1).mean()
    mean_probabilities = probabilities.mean(0)
    batch_entropy = -(mean_probabilities * (mean_probabilities + 1e-9).log()).sum()
    return (sample_entropy - batch_entropy) / torch.tensor(float(codes.shape[0])).log()
