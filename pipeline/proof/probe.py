"""What a linear reader knows of a clip's action from its tokens alone.

Two readers, both functions of the ids and nothing else: `bag` counts which words occur, wherever;
`places` reads the code of the id at every place of the sequence. Both are ridge regressions onto
the classes, in closed form, their penalty chosen by leave-one-out error on the training clips.

Source: the closed-form leave-one-out error of ridge regression, Hastie, Tibshirani and Friedman,
"The Elements of Statistical Learning", 2nd edition, equation 7.64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sweettok.errors import ShapeError
from sweettok.tokens import Tokens

PENALTIES = tuple(10.0**exponent for exponent in range(-3, 5))


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """How well the linear readers do on clips they were not fitted to.

    Attributes:
        bag_right: Which clips were named rightly from which ids occur.
        places_right: Which ones from the code at every place.
    """

    bag_right: Bool[Tensor, " m"]
    places_right: Bool[Tensor, " m"]

    @property
    def bag(self) -> float:
        """Accuracy of the former, in [0, 1]."""
        return float(self.bag_right.double().mean())

    @property
    def places(self) -> float:
        """Accuracy of the latter."""
        return float(self.places_right.double().mean())


def probe_tokens(
    train: Tokens,
    train_labels: Int[Tensor, " n"],
    test: Tokens,
    test_labels: Int[Tensor, " m"],
    *,
    codes: tuple[Float[Tensor, "v e"], Float[Tensor, "w e"]],
) -> ProbeResult:
    """Fits both readers to `train` and measures them on `test`.

    Args:
        train, test: Tokens of labelled clips.
        train_labels, test_labels: Classes, from 0.
        codes: Codes of the spatial and of the temporal tokens' codebook.

    Raises:
        ShapeError: Numbers of clips and labels differ.
    """
    for tokens, labels in ((train, train_labels), (test, test_labels)):
        if len(tokens) != len(labels):
            raise ShapeError(f"{len(tokens)} clips of tokens, but {len(labels)} labels")

    def right(features: tuple[Tensor, Tensor]) -> Bool[Tensor, " m"]:
        return ridge_scores(features[0], train_labels, features[1]).argmax(dim=1) == test_labels

    return ProbeResult(
        bag_right=right((_bag(train, codes), _bag(test, codes))),
        places_right=right((_places(train, codes), _places(test, codes))),
    )


def ridge_scores(
    train: Float[Tensor, "n f"], labels: Int[Tensor, " n"], test: Float[Tensor, "m f"]
) -> Float[Tensor, "m classes"]:
    """Class scores of ridge regression from standardised features, in double precision.

    The system is solved in the clips' space (n × n), whatever the number of features.
    """
    train, test = train.double(), test.double()
    mean, spread = train.mean(dim=0), train.std(dim=0)
    spread = torch.where(spread > 1e-8, spread, torch.ones_like(spread)) * train.shape[1] ** 0.5
    train, test = (train - mean) / spread, (test - mean) / spread
    targets = F.one_hot(labels).double()
    offset = targets.mean(dim=0)
    kernel = train @ train.T
    values, vectors = torch.linalg.eigh(kernel)
    turned = vectors.T @ (targets - offset)
    best = min(PENALTIES, key=lambda penalty: held_out_squares(values, vectors, turned, penalty))
    weights = vectors @ (turned / (values.clamp_min(0) + best).unsqueeze(1))
    return test @ (train.T @ weights) + offset


def held_out_squares(values: Tensor, vectors: Tensor, turned: Tensor, penalty: float) -> float:
    """Mean squared leave-one-out error: residual / (1 − leverage), without refitting.

    Equals refitting without each clip, its mean included: the kernel of centred features maps the
    constant vector to 0, and that direction's 1 / (n · penalty) is no part of the leverage.
    """
    inverse = 1 / (values.clamp_min(0) + penalty)
    weights = vectors @ (turned * inverse.unsqueeze(1))
    diagonal = (vectors.square() * inverse).sum(dim=1, keepdim=True)
    diagonal = diagonal - 1 / (len(values) * penalty)
    return float((weights / diagonal).square().mean())


def _bag(tokens: Tokens, codes: tuple[Tensor, Tensor]) -> Float[Tensor, "n f"]:
    """How often each id occurs; roots, so that frequent words do not drown the others."""
    return torch.cat(
        [
            _counts(ids, len(table))
            for ids, table in zip((tokens.spatial, tokens.temporal), codes, strict=True)
        ],
        dim=1,
    ).sqrt()


def _places(tokens: Tokens, codes: tuple[Tensor, Tensor]) -> Float[Tensor, "n f"]:
    """The codes of all tokens, side by side."""
    return torch.cat(
        [
            F.embedding(ids, table).flatten(1)
            for ids, table in zip((tokens.spatial, tokens.temporal), codes, strict=True)
        ],
        dim=1,
    )


def _counts(ids: Int[Tensor, "n tokens"], size: int) -> Float[Tensor, "n v"]:
    counts = torch.zeros(len(ids), size)
    return counts.scatter_add_(1, ids, torch.ones(ids.shape))
