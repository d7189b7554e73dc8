"""Video codecs in memory: which bytes count, that frames come back, and budgets that are met."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.evaluation.bitstream import Standard, picture_bytes
from pipeline.evaluation.matched_codec import (
    MatchedCodec,
    RateConfig,
    Reduction,
    enlarged,
    kept_frames,
    shrunk,
)
from pipeline.evaluation.video_codec import (
    RECIPES,
    CodecRecipe,
    check_encoder,
    decode_clip,
    encode_clip,
    scheduling_kept,
)
from sweettok.errors import ShapeError
from sweettok.metrics import psnr_db
from sweettok.patches import pixels_to_video, video_to_pixels
from tests.video_factory import frame_number, numbered_frame

STANDARDS: tuple[Standard, ...] = ("h264", "h265", "av1")


def numbered_clip(num_frames: int = 9, width_px: int = 64, height_px: int = 48) -> np.ndarray:
    return np.stack([numbered_frame(7 * n, width_px, height_px) for n in range(num_frames)])


def test_slices_count_and_nothing_around_them() -> None:
    start = b"\x00\x00\x00\x01"
    h264 = start + b"\x67sps" + start + b"\x68pps" + start + b"\x06sei" + start + b"\x65slice"
    assert picture_bytes("h264", h264) == len(b"\x65slice")
    assert picture_bytes("h264", b"\x00\x00\x01\x41later") == len(b"\x41later")
    h265 = start + b"\x40\x01vps" + start + b"\x4e\x01sei" + start + b"\x26\x01idr"
    h265 += b"\x00\x00\x01\x02\x01trail"
    assert picture_bytes("h265", h265) == len(b"\x26\x01idr") + len(b"\x02\x01trail")


def test_units_of_av1_are_counted_by_their_sizes() -> None:
    delimiter, sequence = b"\x12\x00", b"\x0a\x03abc"
    frame = b"\x32\x82\x01" + b"f" * 130  # 130 = 0x02 + 1·128, lowest seven bits first
    extended = b"\x36\x08\x02ff"  # with an extension byte before its size
    assert picture_bytes("av1", delimiter + sequence + frame + extended) == len(frame + extended)
    assert picture_bytes("av1", b"\x30rest without a size") == len(b"\x30rest without a size")
    for broken in (b"\x32\x09short", b"\x32\x82"):
        with pytest.raises(ValueError, match="unit"):
            picture_bytes("av1", broken)


@pytest.mark.parametrize("standard", STANDARDS)
def test_every_frame_comes_back_in_its_place(standard: Standard) -> None:
    check_encoder(RECIPES[standard])
    frames = numbered_clip()[:, :47, :63]  # odd sizes
    coded = encode_clip(frames, standard, 20)
    shown = decode_clip(coded)
    assert shown.shape == frames.shape
    assert [frame_number(frame) for frame in shown] == [7 * number for number in range(9)]
    value = psnr_db(torch.from_numpy(frames)[None], torch.from_numpy(shown)[None], 255.0)
    assert value > 25  # and so with their colours
    assert 0 < coded.picture_bits < coded.packet_bits
    assert encode_clip(frames, standard, 20) == coded


@pytest.mark.parametrize("standard", STANDARDS)
def test_worse_pictures_take_fewer_bits(standard: Standard) -> None:
    frames = video_to_pixels(moving_clips(1))[0].numpy()
    qualities = RECIPES[standard].qualities
    bits = [encode_clip(frames, standard, quality).picture_bits for quality in qualities[::20]]
    assert all(worse < better for better, worse in pairwise(bits)), bits


def test_an_encoder_leaves_no_real_time_priority_behind() -> None:
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    encode_clip(numbered_clip(), "av1", 40)
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before
    with scheduling_kept():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    assert (os.sched_getscheduler(0), os.sched_getparam(0)) == before


def test_a_missing_encoder_is_named() -> None:
    for encoder, decoder in (("libnothing", "h264"), ("libx264", "libnothing")):
        with pytest.raises(PipelineError, match="has no libnothing; install"):
            check_encoder(CodecRecipe(encoder, decoder, {}, "slow", (1.0,)))


def test_what_was_left_out_lies_between_its_neighbours() -> None:
    assert kept_frames(9, 4) == [0, 4, 8]
    assert kept_frames(9, 3) == [0, 3, 6, 8]
    assert kept_frames(9, 20) == [0, 8]
    assert kept_frames(1, 4) == [0]
    levels = torch.arange(9, dtype=torch.uint8) * 10
    clip = levels.reshape(9, 1, 1, 1).expand(9, 32, 48, 3).contiguous()
    for stride in (1, 3, 4, 20):
        kept = kept_frames(9, stride)
        small = shrunk(clip[kept], 2)
        assert small.shape[1:3] == (16, 24)
        assert torch.equal(enlarged(small, kept, clip.shape), clip)


def moving_clips(num_clips: int) -> torch.Tensor:
    """A bright square over a smooth ground, [n, 3, 17, 64, 64] in [-1, 1]."""
    generator = np.random.default_rng(0)
    clips = np.empty((num_clips, 17, 64, 64, 3), np.uint8)
    for clip in clips:
        ground = np.linspace(*generator.integers(0, 200, 2), 64)
        clip[:] = ground[None, None, :, None] + generator.integers(0, 55, 3)
        for number in range(17):
            clip[number, 10 + number : 26 + number, 20:36] = generator.integers(200, 250, 3)
    return pixels_to_video(torch.from_numpy(clips))


@pytest.mark.parametrize("standard", STANDARDS)
def test_budgets_are_met_and_more_bits_are_better(standard: Standard) -> None:
    video = moving_clips(2)
    reductions = (Reduction(), Reduction(shrink=2, frame_stride=4))
    quality = []
    for budget in (1500.0, 6000.0):
        codec = MatchedCodec(standard, budget, RateConfig(tolerance=0.02, reductions=reductions))
        encoded = codec.encode(video)
        assert encoded.packet_bits is not None
        assert bool((encoded.bits <= 1.02 * budget).all())
        assert bool((encoded.bits < encoded.packet_bits).all())
        quality.append(psnr_db(video, codec.decode(encoded), 2.0))
    assert bool((quality[0] + 0.5 < quality[1]).all())


@pytest.mark.parametrize("standard", STANDARDS)
def test_threads_change_nothing(standard: Standard) -> None:
    before = os.sched_getscheduler(0)
    video = moving_clips(4)
    reductions = (Reduction(frame_stride=4),)
    alone, together = (
        MatchedCodec(
            standard, 2000.0, RateConfig(num_threads=threads, reductions=reductions)
        ).encode(video)
        for threads in (1, 4)
    )
    assert torch.equal(alone.bits, together.bits)
    assert torch.equal(alone.content, together.content)
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("size_px", [(16, 16), (16, 64), (34, 32)])
def test_small_frames_are_coded_too(standard: Standard, size_px: tuple[int, int]) -> None:
    frames = numbered_clip()[:, : size_px[0], : size_px[1]]
    coded = encode_clip(frames, standard, 40)
    assert decode_clip(coded).shape == frames.shape
    assert all(encode_clip(frames, standard, 40) == coded for _ in range(4))


def test_sizes_that_an_encoder_refuses_are_passed_over_or_said() -> None:
    video = moving_clips(1)[..., :24, :24]
    tried = (Reduction(), Reduction(frame_stride=8))
    for preset, named in (("slow", None), ("no such preset", "does not encode .* 24×24 px")):
        codec = MatchedCodec("h264", 500.0, RateConfig(preset=preset, reductions=tried))
        if named is None:
            assert codec.encode(video).bits.shape == (1,)
            continue
        with pytest.raises(ShapeError, match=named):
            codec.encode(video)


def test_where_nothing_fits_the_smallest_is_taken() -> None:
    video = moving_clips(1)
    whole = MatchedCodec("h264", 8.0, RateConfig(reductions=(Reduction(),))).encode(video)
    reduced = MatchedCodec("h264", 8.0, RateConfig()).encode(video)
    assert 8 < reduced.bits.item() < whole.bits.item()
