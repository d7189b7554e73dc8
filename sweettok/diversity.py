"""How varied and how clear generated clips are, by what a classifier makes of them.

Source: Salimans et al., "Improved Techniques for Training GANs", arXiv:1606.03498, section 4: the
exponential of the mean divergence between the classes of one clip and the classes of all clips.
Differs: the classifier is whichever one is given. The number says something only beside that
classifier's name, and beside the score of real clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sweettok.errors import ShapeError

_TOLERANCE = 1e-3


@dataclass(frozen=True)
class InceptionScore:
    """The score over equal parts of the clips.

    Attributes:
        mean: Mean over the parts, from 1 (all clips alike, or all unclear) to the number of
            classes (every clip clear, all classes equally often).
        deviation: Sample standard deviation over the parts; None with a single one.
        num_parts: How many parts there were.
    """

    mean: float
    deviation: float | None
    num_parts: int


def inception_score(
    probabilities: Float[Tensor, "n classes"], num_parts: int = 1
) -> InceptionScore:
    """The inception score of clips, from the class probabilities that a classifier gives them.

    Few clips bias it downwards: compare scores of equally many clips and parts.

    Args:
        probabilities: One distribution per clip; the order decides the parts.
        num_parts: Into how many parts the clips are divided, at least 1 and at most the clips.

    Raises:
        ShapeError: The rows are no distributions, or there are fewer clips than parts.
    """
    if probabilities.ndim != 2 or not 1 <= num_parts <= len(probabilities):
        raise ShapeError(
            f"expected [clips, classes] with at least {num_parts} clips and num_parts of at least "
            f"1, got {list(probabilities.shape)} and {num_parts}"
        )
    rows = probabilities.detach().to("cpu", torch.float64)
    sums = rows.sum(dim=1)
    if bool((rows < 0).any()) or not bool(((sums - 1).abs() < _TOLERANCE).all()):
        raise ShapeError("every row must be a distribution over the classes; give a softmax")
    scores = torch.stack([_score(part) for part in rows.tensor_split(num_parts)])
    deviation = float(scores.std()) if num_parts > 1 else None
    return InceptionScore(float(scores.mean()), deviation, num_parts)


def _score(rows: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    """exp(H(mean) − mean(H)), which is the exponential of the mean divergence from the mean."""
    marginal = _entropy_nats(rows.mean(dim=0, keepdim=True))
    return (marginal - _entropy_nats(rows)).exp()


def _entropy_nats(rows: Float[Tensor, "n classes"]) -> Float[Tensor, ""]:
    return torch.special.entr(rows).sum(dim=1).mean()
