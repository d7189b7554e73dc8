"""Long and large videos as tiles: every pixel once, no seams, bounded pieces."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweettok import SweetTok, Tokens
from sweettok.errors import ShapeError
from sweettok.geometry import ClipGeometry
from sweettok.seams import border_steps, measure_seams
from sweettok.tiling import TilePlan, _blend_weights, decode_tiles, encode_tiles

TILE = ClipGeometry(num_frames=9, height_px=32, width_px=48)


class PerfectTokenizer(SweetTok):
    """Decodes each tile to the very pixels it was encoded from: what remains is the tiling."""

    def __init__(self, model: SweetTok) -> None:
        torch.nn.Module.__init__(self)
        self.config = model.config
        self.tiles: list[torch.Tensor] = []

    def encode(self, video: torch.Tensor) -> Tokens:
        ids = torch.arange(len(self.tiles), len(self.tiles) + len(video)).unsqueeze(1)
        self.tiles += list(video)
        return Tokens(ids, ids)

    def decode(self, tokens: Tokens, geometry: ClipGeometry | None = None) -> torch.Tensor:
        assert geometry == TILE
        return torch.stack([self.tiles[index] for index in tokens.spatial[:, 0].tolist()])


def noise(*size: int) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(sum(size))) * 2 - 1


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 70), st.integers(1, 90)),
    overlap_frames=st.integers(0, 5),
    overlap_px=st.integers(0, 16),
    batch_size=st.integers(1, 5),
)
@settings(max_examples=20, deadline=None)
def test_any_video_comes_back_whole_in_order(
    tiling_model: SweetTok,
    size: tuple[int, int, int],
    overlap_frames: int,
    overlap_px: int,
    batch_size: int,
) -> None:
    model = PerfectTokenizer(tiling_model)
    frames, height, width = size
    plan = TilePlan.of_video(
        model,
        num_frames=frames,
        height_px=height,
        width_px=width,
        overlap_frames=overlap_frames,
        overlap_px=overlap_px,
    )
    video = noise(*size)
    tokens = encode_tiles(model, video, plan, batch_size=batch_size)
    assert len(tokens) == plan.num_tiles
    decoded = torch.cat(list(decode_tiles(model, tokens, plan, batch_size=batch_size)), dim=1)
    assert decoded.shape == video.shape
    assert torch.allclose(decoded, video, atol=1e-5)
    for starts, length, unit, least in (
        (plan.frame_starts, 9, 4, overlap_frames),
        (plan.row_starts, 32, 8, overlap_px),
        (plan.column_starts, 48, 8, overlap_px),
    ):
        assert all(start % unit == 0 for start in starts)
        steps = [b - a for a, b in itertools.pairwise(starts)]
        assert all(0 < step <= length - least for step in steps)


@pytest.fixture(scope="module")
def tiling_model(tokenizer_directory: str) -> SweetTok:
    return SweetTok.from_pretrained(tokenizer_directory)


def test_weights_rise_and_fall_linearly_and_sum_to_one() -> None:
    weights = _blend_weights((0, 4, 12), 9, torch.device("cpu"))
    total = torch.zeros(21)
    for start, weight in zip((0, 4, 12), weights, strict=True):
        total[start : start + 9] += weight
    assert torch.allclose(total, torch.ones(21))
    shared = weights[1, :5]
    assert torch.allclose(shared.diff(), torch.full((4,), 1 / 6), atol=1e-6)
    assert weights[1, 8] == pytest.approx(0.5)


def test_a_single_tile_is_the_clip_itself(tiling_model: SweetTok) -> None:
    plan = TilePlan.of_video(tiling_model, num_frames=9, height_px=32, width_px=48)
    video = noise(9, 32, 48)
    tokens = encode_tiles(tiling_model, video, plan)
    assert tokens.equal(tiling_model.encode(video.unsqueeze(0)))
    (frames,) = decode_tiles(tiling_model, tokens, plan)
    assert torch.equal(frames, tiling_model.decode(tokens)[0])
    assert plan.bits(tiling_model) == tiling_model.bits_per_clip()


def test_finished_frames_come_out_before_later_tiles_are_decoded(tiling_model: SweetTok) -> None:
    model = PerfectTokenizer(tiling_model)
    plan = TilePlan.of_video(model, num_frames=29, height_px=32, width_px=48, overlap_frames=5)
    tokens = encode_tiles(model, noise(29, 32, 48), plan)
    first_start = plan.frame_starts[1]
    model.tiles[1:] = [torch.full_like(tile, torch.nan) for tile in model.tiles[1:]]
    first = next(decode_tiles(model, tokens, plan))
    assert first.shape[1] == first_start
    assert torch.isfinite(first).all()


def test_what_cannot_be_tiled_is_refused(tiling_model: SweetTok) -> None:
    def plan(**changes: object) -> TilePlan:
        size = {"num_frames": 30, "height_px": 64, "width_px": 96}
        return TilePlan.of_video(tiling_model, **(size | changes))

    with pytest.raises(ShapeError, match=r"overlap along num_frames is 6, must be in \[0, 5\]"):
        plan(overlap_frames=6)
    with pytest.raises(ShapeError, match="height_px of the video is 0"):
        plan(height_px=0)
    with pytest.raises(ShapeError, match="no multiple of 16 px"):
        plan(tile=TILE.of_size(width_px=40))
    with pytest.raises(ShapeError, match="as planned, got"):
        encode_tiles(tiling_model, noise(30, 64, 90), plan())
    tokens = encode_tiles(tiling_model, noise(30, 64, 96), plan())
    with pytest.raises(ShapeError, match="tiles, got tokens of"):
        decode_tiles(tiling_model, tokens[:1], plan())


def test_images_tile_without_time(tiling_model: SweetTok) -> None:
    plan = TilePlan.of_video(tiling_model, num_frames=2, height_px=40, width_px=48, tile=TILE.image)
    assert plan.frame_starts == (0, 1)
    video = noise(2, 40, 48)
    tokens = encode_tiles(tiling_model, video, plan)
    assert tokens.temporal.shape == (4, 0)
    assert torch.cat(list(decode_tiles(tiling_model, tokens, plan)), dim=1).shape == video.shape


def test_a_step_at_a_border_is_seen_and_an_even_error_is_not(tiling_model: SweetTok) -> None:
    plan = TilePlan.of_video(
        tiling_model, num_frames=33, height_px=64, width_px=48, overlap_frames=1, overlap_px=0
    )
    assert plan.frame_starts == (0, 8, 16, 24)
    assert border_steps(plan.frame_starts, 9) == [7, 8, 15, 16, 23, 24]
    original = noise(33, 64, 48)
    generator = torch.Generator().manual_seed(1)
    even = original + 0.1 * torch.randn(original.shape, generator=generator)
    frames, rows = measure_seams(original, even, plan)
    assert (frames.axis, rows.axis) == ("frames", "rows")
    assert frames.jump_ratio == pytest.approx(1, abs=0.02)
    assert frames.border_psnr_db == pytest.approx(frames.interior_psnr_db, abs=0.1)
    stepped = even.clone()
    stepped[:, :, 32:] += 0.2
    frames, rows = measure_seams(original, stepped, plan)
    assert rows.jump_ratio == pytest.approx(math.sqrt((0.02 + 0.04) / 0.02), abs=0.1)
    assert frames.jump_ratio == pytest.approx(1, abs=0.02)
    with pytest.raises(ShapeError, match="of one shape"):
        measure_seams(original, even[:, 1:], plan)
