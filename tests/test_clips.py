"""Cutting: which frames make a clip, for any timeline, and gathering them in one pass."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips import ClipConfig, ClipShare, gather_clips, needed_frames, plan_windows
from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import ClipWindow


def plan(num_video_frames: int, num_frames: int, fps: float = 25.0, **config) -> list[ClipWindow]:
    times_s = np.arange(num_video_frames) / fps
    return list(plan_windows(times_s, num_video_frames / fps, num_frames, ClipConfig(**config)))


def indices(windows: list[ClipWindow]) -> list[tuple[int, ...]]:
    return [window.frame_indices for window in windows]


def test_consecutive_windows_and_their_times() -> None:
    first, second = plan(11, 5)
    assert indices([first, second]) == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    assert (first.start_s, first.end_s) == (0.0, pytest.approx(0.2))
    assert (second.start_s, second.end_s) == (pytest.approx(0.2), pytest.approx(0.4))
    assert [window.clip_index for window in (first, second)] == [0, 1]


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("drop", [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ("pad", [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 9, 9)]),
        ("shift_back", [(0, 1, 2, 3), (4, 5, 6, 7), (6, 7, 8, 9)]),
    ],
)
def test_tails(tail: str, expected: list[tuple[int, ...]]) -> None:
    windows = plan(10, 4, tail=tail)
    assert indices(windows) == expected
    assert windows[-1].num_padded_frames == (2 if tail == "pad" else 0)
    assert windows[-1].end_s == pytest.approx(0.4 if tail != "drop" else 0.32)


@pytest.mark.parametrize("tail", ["drop", "pad", "shift_back"])
def test_a_video_that_divides_has_no_tail(tail: str) -> None:
    assert indices(plan(8, 4, tail=tail)) == [(0, 1, 2, 3), (4, 5, 6, 7)]


@pytest.mark.parametrize("tail", ["drop", "shift_back"])
def test_too_short_without_padding(tail: str) -> None:
    with pytest.raises(RecordError, match="3 sampled frames") as caught:
        plan(3, 4, tail=tail)
    assert (caught.value.reason, caught.value.stage) == (QuarantineReason.TOO_SHORT, "cut")


def test_min_frames_bounds_videos_and_padded_tails() -> None:
    assert indices(plan(3, 4, tail="pad", min_frames=3)) == [(0, 1, 2, 2)]
    assert indices(plan(6, 4, tail="pad", min_frames=3)) == [(0, 1, 2, 3)]
    with pytest.raises(RecordError, match="3 are needed"):
        plan(2, 4, tail="pad", min_frames=3)
    with pytest.raises(RecordError, match="9 are needed"):
        plan(8, 4, min_frames=9)


def test_overlap_gap_stride_and_limit() -> None:
    assert indices(plan(6, 4, hop_frames=1)) == [(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)]
    assert indices(plan(9, 2, hop_frames=3)) == [(0, 1), (3, 4), (6, 7)]
    assert indices(plan(12, 3, frame_stride=2)) == [(0, 2, 4), (6, 8, 10)]
    assert indices(plan(100, 4, max_clips_per_video=2)) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_target_fps_takes_the_nearest_frame_in_time() -> None:
    assert indices(plan(30, 5, fps=30, target_fps=10)) == [(0, 3, 6, 9, 12), (15, 18, 21, 24, 27)]
    assert indices(plan(4, 8, fps=10, target_fps=20)) == [(0, 0, 1, 1, 2, 2, 3, 3)]
    # A variable rate: half a second without a new frame, then many.
    times_s = np.array([0.0, 0.5, 0.52, 0.54, 0.9])
    (window,) = plan_windows(times_s, 1.0, 5, ClipConfig(target_fps=5))
    assert window.frame_indices == (0, 0, 1, 3, 4)


def test_damaged_times_do_not_become_years_of_frames() -> None:
    times_s = np.array([0.0, 0.04, 3e9])
    with pytest.raises(RecordError, match="timestamps are damaged"):
        plan_windows(times_s, 3e9, 2, ClipConfig(target_fps=10))
    (window,) = plan_windows(times_s, 3e9, 2, ClipConfig())
    assert window.frame_indices == (0, 1)


@st.composite
def timelines(draw: st.DrawFn) -> tuple[np.ndarray, float]:
    gaps_s = draw(st.lists(st.integers(1, 400), min_size=1, max_size=120))
    ends_s = np.cumsum(gaps_s) / 1000
    return np.concatenate([[0.0], ends_s[:-1]]), float(ends_s[-1])


clip_configs = st.builds(
    ClipConfig,
    target_fps=st.none() | st.floats(0.5, 60),
    frame_stride=st.integers(1, 4),
    hop_frames=st.none() | st.integers(1, 12),
    tail=st.sampled_from(["drop", "pad", "shift_back"]),
    min_frames=st.integers(1, 20),
    max_clips_per_video=st.none() | st.integers(1, 5),
)


@given(timelines(), st.integers(1, 17), clip_configs)
def test_every_plan_keeps_its_promises(
    timeline: tuple[np.ndarray, float], num_frames: int, config: ClipConfig
) -> None:
    times_s, end_s = timeline
    try:
        windows = list(plan_windows(times_s, end_s, num_frames, config))
    except RecordError:
        return
    assert windows
    assert [window.clip_index for window in windows] == list(range(len(windows)))
    assert len(windows) <= (config.max_clips_per_video or math.inf)
    for window in windows:
        assert len(window.frame_indices) == num_frames
        assert 0 <= window.num_padded_frames < num_frames
        assert list(window.frame_indices) == sorted(window.frame_indices)
        real = window.frame_indices[: num_frames - window.num_padded_frames]
        assert len(real) >= min(config.min_frames, num_frames)
        assert set(window.frame_indices[len(real) :]) <= {real[-1]}
        assert window.start_s == times_s[real[0]]
        assert window.start_s < window.end_s <= end_s
    assert [w.frame_indices[0] for w in windows] == sorted(w.frame_indices[0] for w in windows)
    assert all(w.num_padded_frames == 0 for w in windows[:-1])
    if config.max_clips_per_video is None and config.tail != "drop" and config.hop_frames is None:
        sampled = set(needed_frames(windows))
        if config.tail == "shift_back" and config.target_fps is None:
            assert sampled == set(range(0, len(times_s), config.frame_stride))


def plan_slowly(
    timeline: tuple[np.ndarray, float], num_frames: int, config: ClipConfig
) -> list[tuple[tuple[int, ...], int]]:
    """The frames of each window and its padding, one after the other, as the settings say it."""
    times_s, end_s = timeline
    samples = list(range(len(times_s)))
    if config.target_fps is not None:
        num_samples = max(1, math.ceil(round(end_s * config.target_fps, 6)))
        samples = [
            min(samples, key=lambda i: (round(abs(times_s[i] - number / config.target_fps), 8), i))
            for number in range(num_samples)
        ]
    samples = samples[:: config.frame_stride]
    if len(samples) < config.min_frames:
        return []
    hop = config.hop_frames or num_frames
    windows = []
    start = 0
    while start + num_frames <= len(samples):
        windows.append((tuple(samples[start : start + num_frames]), 0))
        start += hop
    has_rest = not windows or start - hop + num_frames < len(samples)
    rest = samples[start:]
    if config.tail == "pad" and has_rest and len(rest) >= min(config.min_frames, num_frames):
        num_padded = num_frames - len(rest)
        windows.append((tuple(rest + [rest[-1]] * num_padded), num_padded))
    if config.tail == "shift_back" and has_rest and windows:
        windows.append((tuple(samples[-num_frames:]), 0))
    return windows[: config.max_clips_per_video]


@given(timelines(), st.integers(1, 17), clip_configs)
def test_plans_are_those_of_the_slow_way(
    timeline: tuple[np.ndarray, float], num_frames: int, config: ClipConfig
) -> None:
    expected = plan_slowly(timeline, num_frames, config)
    try:
        windows = list(plan_windows(*timeline, num_frames, config))
    except RecordError:
        windows = []
    assert [(w.frame_indices, w.num_padded_frames) for w in windows] == expected
    times_s, end_s = timeline
    ends_s = [*times_s[1:], end_s]
    assert [(w.start_s, w.end_s) for w in windows] == [
        (times_s[frames[0]], ends_s[frames[-1]]) for frames, _ in expected
    ]


@given(timelines(), st.integers(1, 17), clip_configs, st.integers(1, 9))
def test_shares_are_the_whole_plan_in_pieces(
    timeline: tuple[np.ndarray, float], num_frames: int, config: ClipConfig, num_parts: int
) -> None:
    try:
        plan = plan_windows(*timeline, num_frames, config)
    except RecordError:
        return
    shares = [plan[ClipShare(index, num_parts).of(len(plan))] for index in range(num_parts)]
    assert [window for share in shares for window in share] == list(plan)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert plan[-1] == plan[len(plan) - 1 :][0] == list(plan)[-1]
    for windows in (plan, *shares):
        frames = list(needed_frames(windows))
        assert frames == sorted({index for window in windows for index in window.frame_indices})


@given(timelines(), st.floats(0.5, 60))
def test_sampled_frames_are_the_nearest_ones(
    timeline: tuple[np.ndarray, float], target_fps: float
) -> None:
    times_s, end_s = timeline
    windows = plan_windows(times_s, end_s, 1, ClipConfig(target_fps=target_fps))
    for number, window in enumerate(windows):
        (index,) = window.frame_indices
        distances_s = np.abs(times_s - number / target_fps)
        assert distances_s[index] <= distances_s.min() + 1e-6
    assert (len(windows) - 1) / target_fps < end_s <= len(windows) / target_fps + 1e-5


@given(timelines(), st.integers(1, 17), clip_configs)
def test_gathering_gives_each_window_its_frames(
    timeline: tuple[np.ndarray, float], num_frames: int, config: ClipConfig
) -> None:
    try:
        windows = list(plan_windows(*timeline, num_frames, config))
    except RecordError:
        return
    stream = ((index, np.full((1, 2, 3), index, np.uint8)) for index in needed_frames(windows))
    gathered = list(gather_clips(stream, windows))
    assert [window for window, _ in gathered] == windows
    for window, clip in gathered:
        assert clip.shape == (num_frames, 1, 2, 3)
        assert (clip == np.array(window.frame_indices)[:, None, None, None]).all()


def test_a_clip_comes_as_soon_as_its_last_frame_has_passed() -> None:
    """Long videos are cut as they are decoded: nothing waits for the end of the file."""
    windows = plan(1000, 4, hop_frames=2)
    decoded = []

    def stream():
        for index in needed_frames(windows):
            decoded.append(index)
            yield index, np.zeros((1, 1, 3), np.uint8)

    for number, (window, _) in enumerate(gather_clips(stream(), windows)):
        assert decoded[-1] == window.frame_indices[-1] == 2 * number + 3
