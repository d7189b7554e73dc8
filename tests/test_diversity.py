"""The inception score in its closed forms."""

from __future__ import annotations

import pytest
import torch

from sweettok.diversity import inception_score
from sweettok.errors import ShapeError


@pytest.mark.parametrize("num_classes", [2, 7])
def test_clear_and_even_clips_score_the_number_of_classes(num_classes: int) -> None:
    clear = torch.eye(num_classes).repeat(4, 1)
    assert inception_score(clear).mean == pytest.approx(num_classes)
    assert inception_score(clear[:1].expand(8, -1)).mean == pytest.approx(1.0)
    assert inception_score(torch.full((9, num_classes), 1 / num_classes)).mean == pytest.approx(1)


def test_half_sure_of_two_classes() -> None:
    rows = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    # ln 2 − H(0.75, 0.25), in nats.
    assert inception_score(rows).mean == pytest.approx(2 * 0.75**0.75 * 0.25**0.25)


def test_parts_are_scored_apart() -> None:
    rows = torch.cat([torch.eye(2).repeat(3, 1), torch.tensor([[1.0, 0.0]]).repeat(6, 1)])
    found = inception_score(rows, num_parts=2)
    assert (found.mean, found.num_parts) == (pytest.approx(1.5), 2)
    assert found.deviation == pytest.approx(0.5**0.5)
    assert inception_score(rows).deviation is None


@pytest.mark.parametrize(
    ("rows", "num_parts", "named"),
    [
        (torch.zeros(3, 2), 1, "softmax"),
        (torch.tensor([[1.5, -0.5]]), 1, "softmax"),
        (torch.eye(2), 3, r"\[2, 2\] and 3"),
        (torch.eye(2), 0, "num_parts"),
        (torch.ones(2), 1, "classes"),
    ],
)
def test_what_is_no_distribution_is_refused(rows: torch.Tensor, num_parts: int, named: str) -> None:
    with pytest.raises(ShapeError, match=named):
        inception_score(rows, num_parts)
