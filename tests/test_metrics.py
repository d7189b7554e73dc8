"""Metrics against closed forms and slow, obvious NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweettok.errors import ShapeError
from sweettok.metrics import CodebookStatistics, codebook_usage, entropy_bits, psnr_db


def test_psnr_of_a_constant_error_has_its_closed_form() -> None:
    original = torch.zeros(3, 5, 4, 4, 3)
    errors = torch.tensor([0.1, 0.5, 1.0])
    reconstruction = original + errors.reshape(3, 1, 1, 1, 1)
    expected = 20 * torch.log10(2.0 / errors)
    torch.testing.assert_close(psnr_db(original, reconstruction, data_range=2.0), expected)


def test_psnr_is_infinite_only_for_the_equal_clip() -> None:
    original = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    reconstruction = original.clone()
    reconstruction[1, 0, 0, 0] += 0.25
    equal, changed = psnr_db(original, reconstruction, data_range=1.0).tolist()
    assert equal == math.inf
    assert changed == pytest.approx(10 * math.log10(3 * 8 * 8 / 0.25**2), rel=1e-5)


def test_psnr_of_bytes_does_not_wrap_around() -> None:
    black, white = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.full((1, 2, 2), 255).byte()
    assert psnr_db(black, white, data_range=255).item() == pytest.approx(0.0, abs=1e-5)
    assert psnr_db(white, black, data_range=255).item() == pytest.approx(0.0, abs=1e-5)


def test_psnr_does_not_depend_on_the_scale_of_the_pixels() -> None:
    generator = torch.Generator().manual_seed(1)
    original = torch.randint(0, 256, (4, 3, 6, 6), generator=generator, dtype=torch.uint8)
    reconstruction = torch.randint(0, 256, (4, 3, 6, 6), generator=generator, dtype=torch.uint8)
    as_bytes = psnr_db(original, reconstruction, data_range=255)
    as_signed = psnr_db(original / 127.5 - 1, reconstruction / 127.5 - 1, data_range=2)
    torch.testing.assert_close(as_bytes, as_signed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("original", "reconstruction", "data_range", "named"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), 1.0, r"\[2, 3\].*\[2, 4\]"),
        (torch.zeros(2), torch.zeros(2), 1.0, r"\[2\]"),
        (torch.zeros(2, 0), torch.zeros(2, 0), 1.0, r"\[2, 0\]"),
        (torch.zeros(2, 3), torch.zeros(2, 3), 0.0, "data_range"),
        (torch.zeros(2, 3), torch.zeros(2, 3), math.nan, "data_range"),
    ],
)
def test_psnr_refuses_what_cannot_be_compared(
    original: torch.Tensor, reconstruction: torch.Tensor, data_range: float, named: str
) -> None:
    with pytest.raises(ShapeError, match=named):
        psnr_db(original, reconstruction, data_range)


@pytest.mark.parametrize("num_used", [1, 2, 3, 64])
def test_even_use_has_the_perplexity_of_the_used_codes(num_used: int) -> None:
    statistics = codebook_usage(torch.arange(num_used).repeat(7).reshape(7, num_used), 64)
    assert statistics.perplexity == pytest.approx(num_used)
    assert statistics.usage == num_used / 64
    assert statistics.num_dead == 64 - num_used
    assert statistics.counts.tolist() == [7] * num_used + [0] * (64 - num_used)


def test_entropy_of_a_skewed_distribution() -> None:
    assert entropy_bits(torch.tensor([4, 2, 1, 1, 0])) == pytest.approx(1.75)
    assert entropy_bits(torch.tensor([9])) == 0.0


def test_nothing_counted_is_no_error() -> None:
    statistics = codebook_usage(torch.empty(0, dtype=torch.int16), num_codes=5)
    assert (statistics.usage, statistics.perplexity, statistics.num_dead) == (0.0, 0.0, 5)
    assert entropy_bits(statistics.counts) == 0.0


@given(
    ids=st.lists(st.integers(0, 30), min_size=1, max_size=200),
    dtype=st.sampled_from([torch.int16, torch.int32, torch.int64, torch.uint8]),
)
def test_statistics_agree_with_slow_numpy(ids: list[int], dtype: torch.dtype) -> None:
    statistics = codebook_usage(torch.tensor(ids, dtype=dtype), num_codes=31)
    counts = np.array([ids.count(code) for code in range(31)])
    shares = counts[counts > 0] / len(ids)
    assert statistics.counts.tolist() == counts.tolist()
    assert statistics.usage == pytest.approx(np.mean(counts > 0))
    assert statistics.perplexity == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
    assert statistics.num_dead == np.sum(counts == 0)


def test_summed_counts_give_the_statistics_of_all_batches() -> None:
    first, second = torch.tensor([[0, 1], [1, 3]]), torch.tensor([[3, 3], [5, 0]])
    summed = codebook_usage(first, 6).counts + codebook_usage(second, 6).counts
    whole = codebook_usage(torch.cat([first, second]), 6)
    parts = CodebookStatistics.from_counts(summed)
    assert parts.perplexity == whole.perplexity
    assert parts.counts.tolist() == whole.counts.tolist()


@pytest.mark.parametrize("ids", [[0, 8], [-1, 3]])
def test_an_id_outside_the_codebook_is_named(ids: list[int]) -> None:
    with pytest.raises(ShapeError, match=rf"\[0, 8\).*{ids[0]} to {ids[1]}"):
        codebook_usage(torch.tensor(ids), num_codes=8)


def test_float_ids_and_negative_counts_are_refused() -> None:
    with pytest.raises(ShapeError, match="float32"):
        codebook_usage(torch.zeros(3), num_codes=8)
    with pytest.raises(ShapeError, match="at least 0"):
        entropy_bits(torch.tensor([3, -1]))
    with pytest.raises(ShapeError, match=r"\[2, 2\]"):
        CodebookStatistics.from_counts(torch.ones(2, 2, dtype=torch.int64))
