"""The codebooks: words whose frozen text embeddings are projected by a graph convolution, or not.

`WordCodebook` is the paper's: each word's embedding passes a two-layer graph convolution over the
words it co-occurs with in captions (adjective–noun, adverb–verb) and becomes a unit vector in code
space. Only the projection is learned; the words stay what they are. `create_codebook` makes the
kind that a config names: this one, the same without its edges, or free vectors
(`sweettok/learned_codebook.py`).

Source: arXiv:2412.10443, section 3.3 (Motion-enhanced Language Codebook).
Differs: no dropout, so the codebook is a function of its parameters alone; a linear path beside the
convolution keeps neighbouring words apart; codes are computed once per change of the parameters and
stored with the model, where the released code recomputes them in every call.
"""

from __future__ import annotations

import abc

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sweettok.errors import LexiconError
from sweettok.vocabulary import Vocabulary


class Codebook(nn.Module, abc.ABC):
    """Unit vectors with names, computed from parameters and stored for inference.

    Args:
        words: The name of each code.
        parts_of_speech: What kind of word each one is.
        code_dim: Dimension e of code space.

    A subclass calls `refresh` at the end of its constructor.
    """

    codes: Tensor

    def __init__(
        self, words: tuple[str, ...], parts_of_speech: tuple[str, ...], code_dim: int
    ) -> None:
        super().__init__()
        self.words = words
        self.parts_of_speech = parts_of_speech
        self.register_buffer("codes", torch.zeros(len(words), code_dim))
        self._codes_made_from: tuple[int, ...] | None = None

    @abc.abstractmethod
    def project(self) -> Float[Tensor, "v e"]:
        """Unit codes of all words, computed from the parameters (differentiable)."""

    @torch.no_grad()
    def adapt(self, unit_latents: Float[Tensor, "n e"]) -> None:
        """Called in training before codes are chosen; frozen words have nothing to adapt."""

    @torch.no_grad()
    def record_use(self, ids: Int[Tensor, " n"]) -> None:
        """Called in training after codes are chosen."""

    @property
    def num_words(self) -> int:
        """Number of codes v."""
        return len(self.words)

    def current_codes(self) -> Float[Tensor, "v e"]:
        """Unit codes: fresh and differentiable in training, stored ones in inference."""
        if self.training and torch.is_grad_enabled():
            return self.project()
        if not torch.compiler.is_compiling() and self._parameter_state() != self._codes_made_from:
            self.refresh()
        return self.codes

    @torch.no_grad()
    def refresh(self) -> None:
        """Recomputes the stored codes from the parameters."""
        self.codes.copy_(self.project())
        self.trust_stored_codes()

    def trust_stored_codes(self) -> None:
        """Declares the stored codes current: after loading, they are exactly the saved ones."""
        self._codes_made_from = self._parameter_state()

    def _parameter_state(self) -> tuple[int, ...]:
        # In-place writes (optimiser steps, loading) count the version up; moving devices does not.
        return tuple(parameter._version for parameter in self.parameters())


class WordCodebook(Codebook):
    """The codes of one vocabulary of words.

    Args:
        vocabulary: Words, embeddings and co-occurrence edges.
        code_dim: Dimension e of code space.
        hidden_dim: Hidden width of the graph convolution.
        use_graph: False leaves the edges out: each word is projected by itself, with the same
            parameters.
    """

    word_embeddings: Tensor
    edge_index: Tensor
    edge_weight: Tensor

    def __init__(
        self, vocabulary: Vocabulary, *, code_dim: int, hidden_dim: int, use_graph: bool = True
    ) -> None:
        super().__init__(vocabulary.words, vocabulary.parts_of_speech, code_dim)
        word_dim = vocabulary.embedding_dim
        edges = vocabulary.edges if use_graph else vocabulary.edges[:, :0]
        edge_index, edge_weight = normalised_adjacency(edges, vocabulary.num_words)
        self.register_buffer("word_embeddings", _centred(vocabulary.embeddings), persistent=False)
        self.register_buffer("edge_index", edge_index, persistent=False)
        self.register_buffer("edge_weight", edge_weight, persistent=False)
        self.first_layer = nn.Linear(word_dim, hidden_dim)
        self.second_layer = nn.Linear(hidden_dim, code_dim)
        self.direct = nn.Linear(word_dim, code_dim, bias=False)
        self.refresh()

    def project(self) -> Float[Tensor, "v e"]:
        """Unit codes of all words, in float32 also under autocast (differentiable)."""
        with torch.autocast(self.codes.device.type, enabled=False):
            hidden = F.gelu(self._convolve(self.first_layer(self.word_embeddings)))
            convolved = self._convolve(self.second_layer(hidden))
            return F.normalize(convolved + self.direct(self.word_embeddings), dim=-1)

    def _convolve(self, features: Float[Tensor, "v f"]) -> Float[Tensor, "v f"]:
        source, target = self.edge_index
        messages = features[source] * self.edge_weight.unsqueeze(-1)
        return torch.zeros_like(features).index_add_(0, target, messages)


def normalised_adjacency(
    edges: Int[Tensor, "2 edges"], num_words: int
) -> tuple[Int[Tensor, "2 directed"], Float[Tensor, " directed"]]:
    """Both directions of every edge plus self-loops, weighted by D^(-1/2) (A + I) D^(-1/2).

    Returns:
        Index pairs (source, target) sorted by target, so that summation order is fixed, and the
        weight of each.

    Source: Kipf and Welling, arXiv:1609.02907, equation 2.
    """
    if edges.numel() and int(edges.max()) >= num_words:
        raise LexiconError(
            f"an edge names word {int(edges.max())}, but the vocabulary has {num_words} words"
        )
    loops = torch.arange(num_words).repeat(2, 1)
    directed = torch.cat([edges, edges.flip(0), loops], dim=1)
    order = torch.argsort(directed[1] * num_words + directed[0])
    directed = directed[:, order]
    degree = torch.bincount(directed[1], minlength=num_words).to(torch.float32)
    weight = (degree[directed[0]] * degree[directed[1]]).rsqrt()
    return directed, weight


def _centred(embeddings: Float[Tensor, "v f"]) -> Float[Tensor, "v f"]:
    """Removes the direction that all text embeddings share, then scales rows to length sqrt(f).

    Text encoders put all words in a narrow cone; left there, every latent would have nearly the
    same similarity to every word.
    """
    centred = embeddings - embeddings.mean(dim=0)
    return F.normalize(centred, dim=-1) * embeddings.shape[-1] ** 0.5
