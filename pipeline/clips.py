"""Which frames of a video make its clips, and how they are gathered in one decoding pass.

The frames of a video are first sampled (at `target_fps`, then every `frame_stride`-th); windows
of `num_frames` samples then start every `hop_frames` samples.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from pydantic import Field

from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import ClipWindow
from sweettok.strict_config import StrictConfig

# Sampling at a target rate repeats frames for as long as they are shown. Damaged timestamps would
# turn a few frames into years of them.
_MAX_MEAN_FRAME_S = 600


class ClipConfig(StrictConfig):
    """How a video is cut; the number of frames per clip is the tokenizer's, not ours.

    Attributes:
        target_fps: Sample the video at this rate, taking the frame nearest in time (a slower
            video repeats frames); None keeps its own frames.
        frame_stride: Take every n-th sample.
        hop_frames: Samples between the starts of two clips; None means the clip's length
            (no overlap, no gap), less overlaps, more leaves gaps.
        tail: What becomes of samples after the last whole clip: "drop" leaves them out, "pad"
            makes a clip that repeats the last frame, "shift_back" makes a whole clip that ends
            with the last sample and overlaps the one before.
        min_frames: A video with fewer samples is too short, and a padded clip holds at least so
            many real ones (where the clip's own length allows it).
        max_clips_per_video: Keep only the first so many clips; None keeps all.
    """

    target_fps: float | None = Field(default=None, gt=0)
    frame_stride: int = Field(default=1, ge=1)
    hop_frames: int | None = Field(default=None, ge=1)
    tail: Literal["drop", "pad", "shift_back"] = "drop"
    min_frames: int = Field(default=1, ge=1)
    max_clips_per_video: int | None = Field(default=None, ge=1)


@dataclass(frozen=True, slots=True)
class ClipShare:
    """One of `num_parts` nearly equal, consecutive shares of a video's clips."""

    part_index: int = 0
    num_parts: int = 1

    def of(self, num_clips: int) -> slice:
        """The clips of this share, of `num_clips`; all shares together are all clips."""
        return slice(
            num_clips * self.part_index // self.num_parts,
            num_clips * (self.part_index + 1) // self.num_parts,
        )


ALL_CLIPS = ClipShare()


class ClipPlan(Sequence[ClipWindow]):
    """The windows of a video, made when asked for: hours of video have millions of frames."""

    def __init__(
        self,
        samples: Int64[np.ndarray, " num_samples"],
        starts: Int64[np.ndarray, " num_clips"],
        num_frames: int,
        frame_times_s: Float64[np.ndarray, " num_video_frames"],
        end_s: float,
        first_clip_index: int = 0,
    ) -> None:
        """Windows of `num_frames` of the frames `samples`, beginning at the `starts`-th of them."""
        self._samples = samples
        self._starts = starts
        self._num_frames = num_frames
        self._frame_times_s = frame_times_s
        self._end_s = end_s
        self._first_clip_index = first_clip_index

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> ClipWindow: ...

    @overload
    def __getitem__(self, index: slice) -> ClipPlan: ...

    def __getitem__(self, index: int | slice) -> ClipWindow | ClipPlan:
        """A window, or the plan of consecutive ones; their `clip_index` stays what it is."""
        positions = range(len(self))[index]
        if isinstance(positions, int):
            return self._window(positions)
        assert positions.step == 1
        return ClipPlan(
            self._samples,
            self._starts[index],
            self._num_frames,
            self._frame_times_s,
            self._end_s,
            self._first_clip_index + positions.start,
        )

    def _window(self, position: int) -> ClipWindow:
        start = self._starts[position]
        real = self._samples[start : start + self._num_frames].tolist()
        num_padded_frames = self._num_frames - len(real)
        following_s = self._frame_times_s[real[-1] + 1 : real[-1] + 2]
        return ClipWindow(
            clip_index=self._first_clip_index + position,
            frame_indices=(*real, *[real[-1]] * num_padded_frames),
            start_s=float(self._frame_times_s[real[0]]),
            end_s=float(following_s[0]) if len(following_s) else self._end_s,
            num_padded_frames=num_padded_frames,
        )


def plan_windows(
    frame_times_s: Float64[np.ndarray, " num_video_frames"],
    end_s: float,
    num_frames: int,
    config: ClipConfig,
) -> ClipPlan:
    """Plans the clips of a video from its timeline alone.

    Args:
        frame_times_s: Presentation times of all displayed frames, non-decreasing, first one 0.
        end_s: Time at which the last frame ends.
        num_frames: Frames per clip.

    Returns:
        At least one window, ordered by `clip_index`, first and last frames non-decreasing.

    Raises:
        RecordError: (stage "cut") TOO_SHORT: not one clip can be made; UNDECODABLE: the times
            cannot be true.
    """
    samples = _sample(frame_times_s, end_s, config)
    starts = _window_starts(len(samples), num_frames, config)[: config.max_clips_per_video]
    if not len(starts):
        needed = max(config.min_frames, 1 if config.tail == "pad" else num_frames)
        raise RecordError(
            QuarantineReason.TOO_SHORT,
            f"{len(samples)} sampled frames ({len(frame_times_s)} in the video), "
            f"{needed} are needed with clips.tail = {config.tail}",
            stage="cut",
        )
    return ClipPlan(samples, starts, num_frames, frame_times_s, end_s)


def new_clip(shape: tuple[int, ...]) -> UInt8[np.ndarray, "num_frames height width 3"]:
    """Ordinary memory for a clip."""
    return np.empty(shape, np.uint8)


def gather_clips(
    frames: Iterable[tuple[int, UInt8[np.ndarray, "height width 3"]]],
    windows: Iterable[ClipWindow],
    new_clip: Callable[[tuple[int, ...]], np.ndarray] = new_clip,
) -> Iterator[tuple[ClipWindow, UInt8[np.ndarray, "num_frames height width 3"]]]:
    """Gathers decoded frames into clips while they pass by once.

    Only windows that have begun and not ended hold memory: one without overlap, at most
    ⌈num_frames / hop_frames⌉ with it.

    Args:
        frames: (index, pixels) in increasing order, holding at least `needed_frames(windows)`.
        windows: As `plan_windows` returns them.
        new_clip: Gives the uint8 memory of a clip of a shape; it is filled before it is yielded.
    """
    waiting = iter(windows)
    following = next(waiting, None)
    open_clips: deque[tuple[ClipWindow, np.ndarray]] = deque()
    for index, pixels in frames:
        while following is not None and following.frame_indices[0] <= index:
            clip = new_clip((len(following.frame_indices), *pixels.shape))
            open_clips.append((following, clip))
            following = next(waiting, None)
        for window, clip in open_clips:
            clip[np.equal(window.frame_indices, index)] = pixels
        while open_clips and open_clips[0][0].frame_indices[-1] <= index:
            yield open_clips.popleft()
    assert following is None, "the decoder gave fewer frames than the windows need"
    assert not open_clips, "the decoder ended inside a window"


def needed_frames(windows: Iterable[ClipWindow]) -> Iterator[int]:
    """The frame numbers that `windows` hold, each once, increasing; windows as planned."""
    waiting: set[int] = set()
    for window in windows:
        passed = {index for index in waiting if index < window.frame_indices[0]}
        yield from sorted(passed)
        waiting -= passed
        waiting.update(window.frame_indices)
    yield from sorted(waiting)


def _sample(
    frame_times_s: Float64[np.ndarray, " num_video_frames"], end_s: float, config: ClipConfig
) -> Int64[np.ndarray, " num_samples"]:
    num_video_frames = len(frame_times_s)
    if config.target_fps is None or num_video_frames == 0:
        return np.arange(num_video_frames)[:: config.frame_stride]
    if end_s > num_video_frames * _MAX_MEAN_FRAME_S:
        raise RecordError(
            QuarantineReason.UNDECODABLE,
            f"its {num_video_frames} frames claim to last {end_s:.0f} s, on average above "
            f"{_MAX_MEAN_FRAME_S} s each: the timestamps are damaged",
            stage="cut",
        )
    # Rounding first keeps 10.0 s × 25 fps from becoming 251 samples.
    num_samples = max(1, int(np.ceil(np.round(end_s * config.target_fps, 6))))
    times_s = np.arange(0, num_samples, config.frame_stride) / config.target_fps
    after = np.searchsorted(frame_times_s, times_s).clip(max=num_video_frames - 1)
    before = (after - 1).clip(min=0)
    # A tie goes to the earlier frame; the margin is below any real difference of timestamps.
    is_before_nearer = times_s - frame_times_s[before] <= frame_times_s[after] - times_s + 1e-9
    return np.where(is_before_nearer, before, after)


def _window_starts(
    num_samples: int, num_frames: int, config: ClipConfig
) -> Int64[np.ndarray, " num_clips"]:
    if num_samples < config.min_frames:
        return np.arange(0)
    hop = config.hop_frames or num_frames
    starts = np.arange(0, num_samples - num_frames + 1, hop)
    covered = int(starts[-1]) + num_frames if len(starts) else 0
    if covered >= num_samples:
        return starts
    if config.tail == "pad":
        start = int(starts[-1]) + hop if len(starts) else 0
        if num_samples - start >= min(config.min_frames, num_frames):
            return np.append(starts, start)
    elif config.tail == "shift_back" and len(starts):
        return np.append(starts, num_samples - num_frames)
    return starts
