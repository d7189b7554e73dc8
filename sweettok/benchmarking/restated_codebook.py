"""The restatement's codebooks: a graph convolution in every call, then three indices per latent.

Source: Kipf and Welling, arXiv:1609.02907 (the graph convolution).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.codebook import normalised_adjacency
from sweettok.vocabulary import Vocabulary


class PlainGraphCodebook(nn.Module):
    """Codes of a vocabulary whose words are heads (nouns, verbs), then modifiers.

    Args:
        vocabulary: Words, embeddings, edges.
        hidden_dim: Hidden width of the two-layer graph convolution.
        code_dim: Dimension e of code space.
    """

    edge_index: Tensor
    edge_weight: Tensor
    word_embeddings: Tensor

    def __init__(self, vocabulary: Vocabulary, *, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        edge_index, edge_weight = normalised_adjacency(vocabulary.edges, vocabulary.num_words)
        self.register_buffer("edge_index", edge_index)
        self.register_buffer("edge_weight", edge_weight)
        self.register_buffer("word_embeddings", vocabulary.embeddings)
        self.first_layer = nn.Linear(vocabulary.embedding_dim, hidden_dim)
        self.second_layer = nn.Linear(hidden_dim, code_dim)
        self.num_heads = vocabulary.parts_of_speech.count(vocabulary.parts_of_speech[0])

    def codes(self) -> Float[Tensor, "v e"]:
        """Codes of unit length, from the parameters."""
        hidden = F.relu(self._convolve(self.first_layer(self.word_embeddings)))
        return F.normalize(self._convolve(self.second_layer(hidden)), dim=-1)

    def forward(self, latents: Float[Tensor, "b n two_e"]) -> Int[Tensor, "b n 3"]:
        """Two nearest modifiers of each latent's first half, nearest head of its second."""
        head_codes, modifier_codes = self.codes().tensor_split([self.num_heads])
        to_modifier, to_head = (F.normalize(half, dim=-1) for half in latents.chunk(2, dim=-1))
        modifiers = (to_modifier @ modifier_codes.T).topk(2, dim=-1).indices + self.num_heads
        heads = (to_head @ head_codes.T).argmax(dim=-1, keepdim=True)
        return torch.cat([modifiers, heads], dim=-1)

    def _convolve(self, features: Float[Tensor, "v f"]) -> Float[Tensor, "v f"]:
        source, target = self.edge_index
        messages = features.index_select(0, source) * self.edge_weight.unsqueeze(-1)
        places = target.unsqueeze(-1).expand_as(messages)
        return torch.zeros_like(features).scatter_add_(0, places, messages)
