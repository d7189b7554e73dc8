"""Codebook and quantiser against slow, obvious NumPy restatements of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sweettok.codebook import WordCodebook, normalised_adjacency
from sweettok.config import QuantizerConfig
from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon
from sweettok.quantizer import WordQuantizer, entropy_loss, nearest_codes


def test_codes_are_a_two_layer_graph_convolution_of_the_word_embeddings(lexicon: Lexicon) -> None:
    vocabulary = lexicon.spatial
    codebook = WordCodebook(vocabulary, code_dim=8, hidden_dim=16).double()
    adjacency = np.eye(vocabulary.num_words)
    for first, second in vocabulary.edges.T.tolist():
        adjacency[first, second] = adjacency[second, first] = 1
    scale = np.diag(adjacency.sum(1) ** -0.5)
    adjacency = scale @ adjacency @ scale
    words = codebook.word_embeddings.numpy()

    def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()
        return x @ layer.weight.detach().numpy().T + bias

    hidden = adjacency @ linear(codebook.first_layer, words)
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    codes = adjacency @ linear(codebook.second_layer, gelu) + linear(codebook.direct, words)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    np.testing.assert_allclose(codebook.project().detach().numpy(), codes, atol=1e-6)


def test_adjacency_rows_of_a_path_graph() -> None:
    index, weight = normalised_adjacency(torch.tensor([[0, 1], [1, 2]]), 3)
    dense = torch.zeros(3, 3).index_put_((index[1], index[0]), weight)
    third, sixth = 1 / 3, 1 / math.sqrt(6)
    expected = [[0.5, sixth, 0], [sixth, third, sixth], [0, sixth, 0.5]]
    assert torch.allclose(dense, torch.tensor(expected))
    with pytest.raises(LexiconError, match="word 3"):
        normalised_adjacency(torch.tensor([[0], [3]]), 3)


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 10**9])
def test_nearest_code_is_the_largest_cosine_whatever_the_chunks(chunk_bytes: int) -> None:
    torch.manual_seed(0)
    latents = F.normalize(torch.randn(3, 50, 6), dim=-1)
    codes = F.normalize(torch.randn(33, 6), dim=-1)
    similarity = np.einsum("bne,ve->bnv", latents.double().numpy(), codes.double().numpy())
    found = nearest_codes(latents, codes, chunk_bytes)
    assert np.array_equal(found.numpy(), similarity.argmax(-1))
    assert nearest_codes(latents[:, :0], codes, chunk_bytes).shape == (3, 0)


def test_gradients_pass_straight_through_and_losses_pull_together(lexicon: Lexicon) -> None:
    torch.manual_seed(0)
    config = QuantizerConfig(code_dim=8, graph_hidden_dim=16, entropy_weight=0)
    quantizer = WordQuantizer(lexicon.temporal, config).train()
    latents = torch.randn(2, 5, 8, requires_grad=True)
    output = quantizer(latents)
    upstream = torch.randn_like(output.codes)
    (gradient,) = torch.autograd.grad(output.codes, latents, upstream, retain_graph=True)
    expected = torch.autograd.functional.vjp(lambda z: F.normalize(z, dim=-1), latents, upstream)[1]
    assert torch.allclose(gradient, expected)
    cosine = (F.normalize(latents, dim=-1) * output.codes).sum(-1).mean()
    assert output.loss.item() == pytest.approx(1.25 * (1 - cosine.item()), abs=1e-6)
    output.loss.backward()
    assert quantizer.codebook.first_layer.weight.grad.abs().sum() > 0


def test_inference_uses_stored_codes_until_the_parameters_change(lexicon: Lexicon) -> None:
    quantizer = WordQuantizer(lexicon.spatial, QuantizerConfig(code_dim=8)).eval()
    ids = torch.tensor([[0, 5]])
    before = quantizer.lookup(ids).clone()
    stored = quantizer.codebook.codes.data_ptr()
    assert torch.equal(quantizer.lookup(ids), before)
    with torch.no_grad():
        quantizer.codebook.direct.weight.mul_(-1)
    after = quantizer.lookup(ids)
    assert not torch.equal(after, before)
    assert torch.equal(after, quantizer.codebook.project()[ids])
    assert quantizer.codebook.codes.data_ptr() == stored


def test_entropy_term_prefers_sure_and_even_use() -> None:
    codes = torch.eye(4)
    even = torch.eye(4).repeat(4, 1)
    collapsed = torch.eye(4)[:1].repeat(16, 1)
    unsure = F.normalize(torch.ones(16, 4), dim=-1)
    assert entropy_loss(even, codes, 0.01).item() == pytest.approx(-1, abs=1e-3)
    assert entropy_loss(collapsed, codes, 0.01).item() == pytest.approx(0, abs=1e-3)
    assert entropy_loss(unsure, codes, 0.01).item() == pytest.approx(0, abs=1e-3)
