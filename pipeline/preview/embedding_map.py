"""The codes of a codebook on a plane: their two principal axes, sized by use, ready for SVG.

Words that lie together are near one another for the tokenizer; where used codes lie apart from all
others, a part of the codebook was never reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

VIEW_WIDTH, VIEW_HEIGHT, MARGIN = 440, 330, 16
MAX_DOTS, MAX_UNUSED, MAX_LABELS = 800, 2500, 26
MIN_RADIUS, MAX_RADIUS = 1.6, 10.0
LABEL_CHARACTERS, CHARACTER_WIDTH, LABEL_HEIGHT = 16, 5.6, 11.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A used code, in the plot's units."""

    x: float
    y: float
    radius: float
    code: int


@dataclass(frozen=True, slots=True)
class Label:
    """A word beside its dot; `code` names it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Dots and labels, in units of a `width` × `height` view box.

    Attributes:
        dots: Used codes, the most used ones first and at most `MAX_DOTS`.
        labels: Words of as many of the most used codes as have room.
        unused: Codes that were never chosen, as one SVG path of points, at most `MAX_UNUSED`.
        explained: Share of the codes' variance that lies in the plane, in [0, 1].
    """

    dots: tuple[Dot, ...]
    labels: tuple[Label, ...]
    unused: str
    explained: float
    width: int = VIEW_WIDTH
    height: int = VIEW_HEIGHT


def embedding_map(
    codes: Float[np.ndarray, "v e"], counts: Int[np.ndarray, " v"], words: tuple[str, ...]
) -> EmbeddingMap:
    """Draws the codes.

    Args:
        codes: Vectors of at least two dimensions; the axes are those of all codes, used or not.
        counts: Tokens that chose each code, at least 0.
        words: The name of each code.
    """
    plane, explained = principal_plane(codes)
    placed = _in_view(plane)
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    used = [int(code) for code in order[:MAX_DOTS] if counts[code] > 0]
    most = max(1, int(counts.max()))
    radii = MIN_RADIUS + (MAX_RADIUS - MIN_RADIUS) * np.sqrt(counts / most)
    unused = np.flatnonzero(counts == 0)
    step = max(1, -(-len(unused) // MAX_UNUSED))
    return EmbeddingMap(
        dots=tuple(
            Dot(round(placed[c, 0], 1), round(placed[c, 1], 1), round(float(radii[c]), 1), c)
            for c in used
        ),
        labels=_labels(used, placed, radii, words),
        unused="".join(f"M{x:.1f} {y:.1f}h0" for x, y in placed[unused[::step]].tolist()),
        explained=explained,
    )


def principal_plane(codes: Float[np.ndarray, "v e"]) -> tuple[Float[np.ndarray, "v 2"], float]:
    """The codes along their two principal axes, and the share of their variance in them.

    Each axis points to where its largest component is positive, so that equal codes give equal
    maps.
    """
    centred = np.asarray(codes, np.float64) - np.mean(codes, axis=0, dtype=np.float64)
    variances, axes = np.linalg.eigh(centred.T @ centred)
    chosen = axes[:, ::-1][:, :2]
    largest = np.abs(chosen).argmax(axis=0)
    chosen = chosen * np.where(chosen[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float(variances.sum())
    explained = float(variances[-2:].sum()) / total if total > 0 else 0.0
    return centred @ chosen, min(1.0, max(0.0, explained))


def _in_view(plane: Float[np.ndarray, "v 2"]) -> Float[np.ndarray, "v 2"]:
    """Fills the view with the points; both axes keep their own scale, which says nothing here."""
    low, high = plane.min(axis=0), plane.max(axis=0)
    reach = np.where(high > low, high - low, 1.0)
    share = np.where(high > low, (plane - low) / reach, 0.5)
    share[:, 1] = 1 - share[:, 1]
    size = np.array([VIEW_WIDTH, VIEW_HEIGHT]) - 2 * MARGIN
    return MARGIN + share * size


def _labels(
    used: list[int], placed: np.ndarray, radii: np.ndarray, words: tuple[str, ...]
) -> tuple[Label, ...]:
    """Goes through the most used words and keeps those whose box is still free."""
    boxes: list[tuple[float, float, float, float]] = []
    labels = []
    for code in used:
        text = words[code]
        if len(text) > LABEL_CHARACTERS:
            text = text[: LABEL_CHARACTERS - 1] + "…"
        x, y = placed[code]
        width = len(text) * CHARACTER_WIDTH
        left = x + radii[code] + 2
        if left + width > VIEW_WIDTH - 2:
            left = x - radii[code] - 2 - width
        box = (left, y - LABEL_HEIGHT / 2, left + width, y + LABEL_HEIGHT / 2)
        if box[0] < 0 or any(_overlap(box, other) for other in boxes):
            continue
        boxes.append(box)
        labels.append(Label(round(float(left), 1), round(float(y) + 3.5, 1), text))
        if len(labels) == MAX_LABELS:
            break
    return tuple(labels)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
