"""The quantiser against slow, obvious NumPy; ties, numbers that are none, memory, precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from sweettok.config import QuantizerConfig
from sweettok.errors import ConfigError, ShapeError
from sweettok.lexicon import Lexicon
from sweettok.metrics import codebook_usage
from sweettok.quantizer import ENTROPY_SAMPLE_SIZE, WordQuantizer, entropy_loss
from sweettok.similarity import (
    NO_CODE,
    TIE_TOLERANCE,
    full_float32,
    nearest_codes,
    search_in_chunks,
)

NO_LIMIT = 2**30


def unit_rows(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator), dim=-1)


def slowly_nearest(latents: torch.Tensor, codes: torch.Tensor) -> np.ndarray:
    """The rule in float64, one pair at a time: within the tolerance of the largest, the lowest."""
    found = np.full(latents.shape[:-1], NO_CODE)
    for place in np.ndindex(*latents.shape[:-1]):
        latent = latents[place].double().numpy()
        cosines = [float(sum(latent * code)) for code in codes.double().numpy()]
        largest = max(cosines)
        found[place] = next(i for i, c in enumerate(cosines) if c >= largest - TIE_TOLERANCE)
    return found


@settings(max_examples=40, deadline=None)
@given(
    num_latents=st.integers(0, 12),
    num_codes=st.integers(1, 40),
    code_dim=st.integers(2, 9),
    num_copies=st.integers(0, 5),
    chunk_bytes=st.sampled_from([1, 500, 2000, NO_LIMIT]),
    seed=st.integers(0, 1000),
)
def test_nearest_code_is_the_largest_cosine_and_of_tied_ones_the_lowest_id(
    num_latents: int, num_codes: int, code_dim: int, num_copies: int, chunk_bytes: int, seed: int
) -> None:
    codes = unit_rows(num_codes, code_dim, seed=seed)
    codes = torch.cat([codes, codes[:num_copies]])
    latents = unit_rows(2, num_latents, code_dim, seed=seed + 1)
    found = nearest_codes(latents, codes, chunk_bytes)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), slowly_nearest(latents, codes))


def test_copies_of_a_code_give_the_lowest_id_wherever_they_are() -> None:
    codes = unit_rows(11_139, 64)
    codes[[117, 5000, 11_138]] = codes[5].clone()
    latents = F.normalize(codes[5] + 0.1 * unit_rows(60, 64, seed=1), dim=-1)
    # One at a time, products round differently in the last column: argmax alone takes the copy.
    for chunk_bytes in (1, 10**6, NO_LIMIT):
        assert set(nearest_codes(latents, codes, chunk_bytes).tolist()) == {5}


def test_a_latent_midway_between_codes_takes_the_first_of_them() -> None:
    axes = torch.eye(6)
    midway = F.normalize(axes[4] + axes[2], dim=-1)
    assert nearest_codes(midway[None], axes, NO_LIMIT).tolist() == [2]
    assert nearest_codes(midway[None], axes.flip(0), NO_LIMIT).tolist() == [1]
    assert nearest_codes(torch.zeros(1, 6), axes, NO_LIMIT).tolist() == [0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_ties_go_to_the_lowest_id_on_cuda_also_when_tf32_is_allowed() -> None:
    codes = unit_rows(3000, 24)
    codes[[117, 2999]] = codes[5].clone()
    latents = torch.cat([codes, unit_rows(3000, 24, seed=1)])
    expected = nearest_codes(latents, codes, NO_LIMIT)
    with torch.backends.cuda.matmul.flags(allow_tf32=True):
        found = nearest_codes(latents.cuda(), codes.cuda(), 10**6)
    assert torch.equal(found.cpu(), expected)


def test_ids_beyond_16_bits_are_found() -> None:
    codes = torch.zeros(70_000, 2)
    codes[:, 0] = -1
    codes[69_999] = torch.tensor([0.0, 1.0])
    assert nearest_codes(torch.tensor([[0.0, 1.0]]), codes, 2**20).tolist() == [69_999]


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors made inside that live at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before = {t.untyped_storage()._cdata for t in args if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in before:
                    self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {key: item for key, item in self.live.items() if not item[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.live.values()))
        return result


@pytest.mark.parametrize("chunk_bytes", [100_000, 1_000_000])
def test_search_and_entropy_hold_no_more_than_the_stated_memory(chunk_bytes: int) -> None:
    codes = unit_rows(1000, 8).requires_grad_()
    latents = unit_rows(120, 8, seed=1).requires_grad_()
    small = 8 * (codes.numel() + latents.numel()) * 4  # results and gradients of input size
    with LiveBytes() as searching:
        search_in_chunks(latents.detach(), codes.detach(), chunk_bytes)
    assert chunk_bytes / 2 < searching.most < chunk_bytes + small
    with LiveBytes() as training:
        entropy_loss(latents, codes, 0.1, chunk_bytes).backward()
    assert chunk_bytes / 2 < training.most < chunk_bytes + small


def test_a_memory_limit_below_one_row_of_the_largest_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="distance_chunk_bytes"):
        QuantizerConfig.from_mapping({"distance_chunk_bytes": 2**19})


def test_reduced_precision_settings_change_no_id_and_are_put_back() -> None:
    codes, latents = unit_rows(200, 16), unit_rows(50, 16, seed=1)
    expected = nearest_codes(latents, codes, NO_LIMIT)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(nearest_codes(latents, codes, NO_LIMIT), expected)
        with full_float32("cpu"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        with pytest.raises(RuntimeError, match="invalid for input"), full_float32("cpu"):
            latents.view(3)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def make_quantizer(lexicon: Lexicon, **changes: Any) -> WordQuantizer:
    torch.manual_seed(0)
    config = QuantizerConfig.from_mapping({"code_dim": 8, "graph_hidden_dim": 16} | changes)
    return WordQuantizer(lexicon.temporal, config)


def test_autocast_changes_neither_ids_nor_codes_nor_loss(lexicon: Lexicon) -> None:
    quantizer = make_quantizer(lexicon).train()
    latents = torch.randn(2, 20, 8)
    expected = quantizer(latents)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(latents)
    assert torch.equal(found.ids, expected.ids)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.loss, expected.loss)
    assert quantizer(latents.bfloat16()).codes.dtype == torch.float32


@pytest.mark.parametrize("kind", ["words", "learned"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_latents_that_are_no_numbers_get_no_word(lexicon: Lexicon, bad: float, kind: str) -> None:
    quantizer = make_quantizer(lexicon, codebook=kind)
    latents = torch.randn(2, 5, 8)
    expected = quantizer.eval()(latents).ids
    latents[1, 3, 2] = bad
    with pytest.raises(ShapeError, match="1 of 10 latents are not finite"):
        quantizer(latents)
    output = quantizer.train()(latents)
    expected[1, 3] = NO_CODE
    assert torch.equal(output.ids == NO_CODE, expected == NO_CODE)
    assert kind == "learned" or torch.equal(output.ids, expected)
    assert bool(output.codes[1, 3].isnan().all())
    assert int(output.codes.isnan().any(-1).sum()) == 1
    assert bool(output.loss.isnan())
    with pytest.raises(ShapeError, match="-1"):
        codebook_usage(output.ids, quantizer.codebook.num_words)


def test_a_codebook_that_diverged_gives_no_word_to_anything(lexicon: Lexicon) -> None:
    quantizer = make_quantizer(lexicon).train()
    with torch.no_grad():
        quantizer.codebook.direct.weight[0, 0] = math.nan
    assert set(quantizer(torch.randn(1, 4, 8)).ids.flatten().tolist()) == {NO_CODE}


@pytest.mark.parametrize("shape", [(0, 5, 8), (3, 0, 8)])
@pytest.mark.parametrize("kind", ["words", "learned"])
def test_empty_batches_pass(lexicon: Lexicon, shape: tuple[int, ...], kind: str) -> None:
    quantizer = make_quantizer(lexicon, codebook=kind)
    for training in (True, False):
        output = quantizer.train(training)(torch.zeros(shape))
        assert output.codes.shape == shape
        assert output.ids.shape == shape[:2]
        assert output.loss.item() == 0
        assert output.terms == {}


def test_gradients_pass_straight_through_and_losses_pull_together(lexicon: Lexicon) -> None:
    quantizer = make_quantizer(lexicon, entropy_weight=0).train()
    latents = torch.randn(2, 5, 8, requires_grad=True)
    output = quantizer(latents)
    upstream = torch.randn_like(output.codes)
    (gradient,) = torch.autograd.grad(output.codes, latents, upstream, retain_graph=True)
    expected = torch.autograd.functional.vjp(lambda z: F.normalize(z, dim=-1), latents, upstream)[1]
    assert torch.allclose(gradient, expected)
    cosine = (F.normalize(latents, dim=-1) * output.codes).sum(-1).mean()
    assert output.loss.item() == pytest.approx(1.25 * (1 - cosine.item()), abs=1e-6)
    assert set(output.terms) == {"commitment", "codebook"}
    output.loss.backward()
    assert quantizer.codebook.first_layer.weight.grad.abs().sum() > 0


def test_the_loss_is_the_weighted_sum_of_its_named_terms(lexicon: Lexicon) -> None:
    weights = {"commitment": 0.5, "codebook": 2.0, "entropy": 0.25}
    changes = {f"{name}_weight": weight for name, weight in weights.items()}
    output = make_quantizer(lexicon, **changes).train()(torch.randn(2, 9, 8))
    expected = sum(weights[name] * term.item() for name, term in output.terms.items())
    assert set(output.terms) == set(weights)
    assert output.loss.item() == pytest.approx(expected, abs=1e-6)


def test_entropy_term_prefers_sure_and_even_use() -> None:
    codes = torch.eye(4)
    even = torch.eye(4).repeat(4, 1)
    collapsed = torch.eye(4)[:1].repeat(16, 1)
    unsure = F.normalize(torch.ones(16, 4), dim=-1)
    assert entropy_loss(even, codes, 0.01).item() == pytest.approx(-1, abs=1e-3)
    assert entropy_loss(collapsed, codes, 0.01).item() == pytest.approx(0, abs=1e-3)
    assert entropy_loss(unsure, codes, 0.01).item() == pytest.approx(0, abs=1e-3)


def test_entropy_in_chunks_is_the_same_with_the_same_gradients() -> None:
    gradients = []
    for chunk_bytes in (NO_LIMIT, 40_000):
        latents = unit_rows(90, 6).requires_grad_()
        codes = unit_rows(50, 6, seed=1).requires_grad_()
        loss = entropy_loss(latents, codes, 0.1, chunk_bytes)
        loss.backward()
        gradients.append((loss.detach(), latents.grad, codes.grad))
    for whole, chunked in zip(*gradients, strict=True):
        assert torch.allclose(whole, chunked, atol=1e-6)


def test_entropy_samples_every_column_of_a_large_batch_evenly() -> None:
    num_columns = 64
    columns = torch.arange(4 * ENTROPY_SAMPLE_SIZE) % num_columns
    latents = torch.eye(num_columns)[columns]
    # Sure of their word, and all words equally often: -1 only if no column is left out.
    assert entropy_loss(latents, torch.eye(num_columns), 0.01).item() == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("training", [True, False])
def test_compiles_as_one_graph_with_the_same_result(lexicon: Lexicon, training: bool) -> None:
    quantizer = make_quantizer(lexicon, distance_chunk_bytes=2**20).train(training)
    latents = torch.randn(2, 300, 8)  # two chunks of the entropy term
    expected = quantizer(latents)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    found = compiled(latents)
    assert torch.equal(found.ids, expected.ids)
    assert torch.allclose(found.codes, expected.codes)
    assert torch.allclose(found.loss, expected.loss)
