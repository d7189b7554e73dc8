"""The figures of report pages: maps of words and codes, quality over bits, the choice of clips."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.evaluation.page import rate_distortion
from pipeline.preview.embedding_map import MAX_LABELS, embedding_map, principal_plane
from pipeline.preview.rate_plot import RateDistortion, RatePoint, RateSeries, rate_plot
from pipeline.preview.word_maps import WordMap, lit_strip, word_maps
from pipeline.preview.worst_and_best import choose_clips
from sweettok import SweetTok, pixels_to_video
from sweettok.attention_maps import attention_maps
from sweettok.errors import ShapeError
from sweettok.model import WordCount


def test_word_maps_are_the_sums_of_their_tokens(model: SweetTok) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 32, 48, 3), np.uint8)
    video = pixels_to_video(torch.from_numpy(frames)[None])
    tokens, maps = model.encode(video), attention_maps(model, video)
    spatial, temporal = word_maps(model, frames, tokens, max_words=3)
    for found, words in ((spatial, model.lexicon.spatial), (temporal, model.lexicon.temporal)):
        assert len(found) == 3
        assert all(one.word.word in words.words and one.weights.max() == 1 for one in found)
    code = model.lexicon.spatial.words.index(spatial[0].word.word)
    expected = sum(maps.spatial[0, at] for at in (tokens.spatial[0] == code).nonzero().flatten())
    for latent in range(3):
        assert spatial[0].weights[latent] == pytest.approx(expected / expected.max(), abs=1e-5)
    code = model.lexicon.temporal.words.index(temporal[0].word.word)
    by_tube = torch.zeros(3, 4, 6)
    for at in (tokens.temporal[0] == code).nonzero().flatten().tolist():
        by_tube[1 + at // 6] += maps.temporal[0, at]
    assert temporal[0].weights == pytest.approx(by_tube / by_tube.max(), abs=1e-5)


def test_strips_are_lit_where_the_tokens_look() -> None:
    frames = np.full((9, 32, 48, 3), 200, np.uint8)
    weights = np.zeros((3, 4, 6), np.float32)
    weights[2, :2, :3] = 1
    content = lit_strip(frames, WordMap(WordCount("run", "verb", 1), weights, tube_frames=4))
    strip = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert strip.shape == (32, 3 * 48 + 2 * 2, 3)
    dim, lit = strip[20:, :40].mean(), strip[:8, 104:114].mean()
    assert lit > 190
    assert dim < 110
    assert strip[20:, 130:].mean() == pytest.approx(dim, abs=5)


def test_the_plane_is_that_of_the_singular_vectors() -> None:
    codes = np.random.default_rng(1).normal(size=(50, 6)) * [9, 1, 5, 1, 1, 1]
    plane, explained = principal_plane(codes)
    centred = codes - codes.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.abs(plane) == pytest.approx(np.abs(left[:, :2] * values[:2]))
    assert explained == pytest.approx((values[:2] ** 2).sum() / (values**2).sum())
    assert principal_plane(codes.copy())[0] == pytest.approx(plane)


@given(
    counts=st.lists(st.integers(0, 10**6), min_size=1, max_size=60),
    same=st.booleans(),
)
def test_a_map_shows_every_used_code_in_its_frame(counts: list[int], same: bool) -> None:
    used = np.array(counts)
    codes = np.random.default_rng(2).normal(size=(len(counts), 3)) * (not same)
    words = tuple("word" * (1 + code % 7) for code in range(len(counts)))
    found = embedding_map(codes, used, words)
    assert sorted(dot.code for dot in found.dots) == np.flatnonzero(used).tolist()
    assert found.unused.count("M") == (used == 0).sum()
    assert [used[dot.code] for dot in found.dots] == sorted(used[used > 0], reverse=True)
    radii = [dot.radius for dot in found.dots]
    assert radii == sorted(radii, reverse=True)
    assert all(0 <= dot.x <= found.width and 0 <= dot.y <= found.height for dot in found.dots)
    assert len(found.labels) <= min(MAX_LABELS, len(found.dots))


@given(
    points=st.lists(
        st.tuples(st.floats(1, 1e7), st.floats(5, 60), st.floats(0, 3)), min_size=1, max_size=6
    ),
    yardstick=st.floats(5, 60),
)
def test_a_rate_plot_keeps_the_order_of_its_points(
    points: list[tuple[float, float, float]], yardstick: float
) -> None:
    series = RateSeries(
        "codec", tuple(RatePoint(bits, db, db - reach, db + reach) for bits, db, reach in points)
    )
    plot = rate_plot(RateDistortion((series,), (("still", yardstick),)))
    (drawn,) = plot.series
    assert [point.x for point in drawn.points] == sorted(point.x for point in drawn.points)
    for point in drawn.points:
        assert plot.left <= point.x <= plot.right
        assert plot.top <= point.high_y <= point.y <= point.low_y <= plot.bottom
    best = max(points, key=lambda found: found[1])
    highest = min(drawn.points, key=lambda point: point.y)
    assert f"{best[1]:.2f} dB" in highest.text
    assert 2 <= len(plot.psnr_ticks) <= 12
    assert plot.top <= plot.yardsticks[0][1] <= plot.bottom


def test_rows_of_one_codec_are_one_curve() -> None:
    def row(name: str, bits: float | None, db: float, **facts: str) -> dict[str, object]:
        quality = {"mean": db, "low": None, "high": None}
        return {"name": name, "bits_per_clip": bits, "psnr_db": quality, "facts": facts}

    rows = [
        row("ours", 1280, 24),
        row("H.265 at matched bits", 1280, 26, encoder="libx265"),
        row("H.265 at 640 bits", 640, 23, encoder="libx265"),
        row("still", None, 20),
    ]
    found = rate_distortion(rows)
    assert found is not None
    assert {one.name: len(one.points) for one in found.series} == {"ours": 1, "H.265": 2}
    assert found.yardsticks == (("still", 20),)
    assert rate_distortion(rows[-1:]) is None
    with pytest.raises(ShapeError, match="more than 0 bits"):
        RatePoint(0, 1, 1, 1)


def test_the_worst_and_the_best_clips_are_shown_once() -> None:
    assert choose_clips([3, 1, 2, 5, 4], 2, 1) == {1: "worst", 2: "worst", 3: "best"}
    assert list(choose_clips([3, 1, 2, 5, 4], 1, 2)) == [1, 3, 4]
    assert choose_clips([2, 1], 3, 3) == {1: "worst", 0: "worst"}
    assert choose_clips([1, 1, 1], 1, 1) == {0: "worst", 2: "best"}
    assert choose_clips([], 1, 1) == {}
