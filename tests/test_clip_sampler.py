"""Which clips a step sees: purity, coverage, disjointness, and bounds of what is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clips import ClipConfig, plan_windows
from pipeline.errors import RecordError, SourceError
from pipeline.training.clip_sampler import ClipGrid, ClipSampler
from pipeline.training.evaluation_clips import EvaluationClips
from pipeline.training.frame_cache import FrameCache
from sweettok.geometry import ClipGeometry
from tests.frame_corpus import FRAMES_PER_VIDEO, data_config, traced_cache

LENGTHS = (30, 9, 5, 41)
GEOMETRY = ClipGeometry(num_frames=5, height_px=8, width_px=8, patch_px=8, tube_frames=4)
BATCHES = st.tuples(st.integers(1, 3), st.integers(1, 4))  # world_size, batch_size


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return traced_cache(tmp_path_factory.mktemp("cache"), LENGTHS)


def sampler(cache: FrameCache, *, clip_frames: int = 5, **arguments: object) -> ClipSampler:
    changes = {name: arguments.pop(name) for name in ("clips", "augmentation") if name in arguments}
    geometry = GEOMETRY.model_copy(update={"num_frames": clip_frames})
    options = {"seed": 0, "batch_size": 4} | arguments
    return ClipSampler(cache, data_config(**changes), geometry, **options)  # type: ignore[arg-type]


def traced(clip: np.ndarray) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """The video of a clip, its frames, its rows and its columns, read from its pixels."""
    marks = clip[:, 0, 0, 2]
    assert (clip[..., 2] == marks[:, None, None]).all()
    assert (clip[..., 0] == clip[0, :, 0, 0][:, None]).all()
    assert (clip[..., 1] == clip[0, 0, :, 1]).all()
    videos = marks // FRAMES_PER_VIDEO
    assert (videos == videos[0]).all()
    frames = (marks % FRAMES_PER_VIDEO).astype(int)
    return int(videos[0]), frames, clip[0, :, 0, 0].astype(int), clip[0, 0, :, 1].astype(int)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(-5, 2**40), step=st.integers(0, 10**9), shape=BATCHES, data=st.data())
def test_a_batch_depends_on_seed_step_and_rank_alone(
    cache: FrameCache, seed: int, step: int, shape: tuple[int, int], data: st.DataObject
) -> None:
    world_size, batch_size = shape
    rank = data.draw(st.integers(0, world_size - 1))
    options = {"seed": seed, "batch_size": batch_size, "rank": rank, "world_size": world_size}
    used = sampler(cache, **options)
    for other in data.draw(st.lists(st.integers(0, 40), max_size=3)):
        used.batch_at(other)
    batch = used.batch_at(step)
    assert batch.shape == (batch_size, 5, 8, 8, 3)
    assert np.array_equal(batch, sampler(cache, **options).batch_at(step))


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 1000), shape=BATCHES)
def test_more_workers_see_the_same_clips(
    cache: FrameCache, step: int, shape: tuple[int, int]
) -> None:
    world_size, batch_size = shape
    parts = [
        sampler(cache, batch_size=batch_size, rank=rank, world_size=world_size).batch_at(step)
        for rank in range(world_size)
    ]
    whole = sampler(cache, batch_size=world_size * batch_size).batch_at(step)
    assert np.array_equal(np.concatenate(parts), whole)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), shape=BATCHES, hop=st.integers(1, 12), epoch=st.integers(0, 3))
def test_an_epoch_shows_every_position_to_one_rank_once(
    cache: FrameCache, seed: int, shape: tuple[int, int], hop: int, epoch: int
) -> None:
    world_size, batch_size = shape
    ranks = [
        sampler(
            cache, clips={"hop_frames": hop}, seed=seed, batch_size=batch_size, rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]  # fmt: skip
    num_clips = ranks[0].clips_per_epoch
    first, last = epoch * num_clips, (epoch + 1) * num_clips
    step_clips = world_size * batch_size
    steps = range(first // step_clips, -(-last // step_clips))
    seen = np.concatenate([rank.positions_at(step) for step in steps for rank in ranks])
    skipped = first - steps.start * step_clips
    assert sorted(seen[skipped : skipped + num_clips].tolist()) == list(range(num_clips))


def test_epochs_and_seeds_differ_in_order_and_augmentation(cache: FrameCache) -> None:
    every = {"batch_size": sampler(cache).clips_per_epoch}
    first = sampler(cache, **every)
    assert not np.array_equal(first.positions_at(0), first.positions_at(1))
    assert not np.array_equal(
        first.positions_at(0), sampler(cache, seed=1, **every).positions_at(0)
    )
    views = {first.batch_at(step)[first.positions_at(step) == 0].tobytes() for step in range(12)}
    assert len(views) > 9


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    clip_frames=st.integers(1, 12),
    config=st.builds(
        ClipConfig,
        hop_frames=st.none() | st.integers(1, 15),
        tail=st.sampled_from(["drop", "pad", "shift_back"]),
        min_frames=st.integers(1, 14),
        max_clips_per_video=st.none() | st.integers(1, 3),
    ),
)
def test_the_grid_is_where_tokenizing_would_cut(
    lengths: list[int], clip_frames: int, config: ClipConfig
) -> None:
    expected = []
    for video, length in enumerate(lengths):
        try:
            windows = plan_windows(np.arange(length) / 25, length / 25, clip_frames, config)
        except RecordError:
            continue
        expected += [(video, window.frame_indices[0]) for window in windows]
    grid = ClipGrid(np.array(lengths), clip_frames, config)
    videos, starts = grid.locate(np.arange(len(grid)))
    assert list(zip(videos.tolist(), starts.tolist(), strict=True)) == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    hop=st.none() | st.integers(1, 9),
    clip_frames=st.sampled_from([1, 5, 9]),
    max_frame_stride=st.integers(1, 4),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_views_stay_inside_one_video_and_its_frames(
    cache: FrameCache,
    seed: int,
    hop: int | None,
    clip_frames: int,
    max_frame_stride: int,
    flags: tuple[bool, bool, bool],
) -> None:
    random_start, random_crop, horizontal_flip = flags
    augmentation = {
        "random_start": random_start, "random_crop": random_crop,
        "horizontal_flip": horizontal_flip, "max_frame_stride": max_frame_stride,
    }  # fmt: skip
    clips = sampler(
        cache, seed=seed, clip_frames=clip_frames, clips={"hop_frames": hop},
        augmentation=augmentation,
    ).batch_at(seed)  # fmt: skip
    for clip in clips:
        video, frames, rows, columns = traced(clip)
        assert len(set(np.diff(frames).tolist())) <= 1
        if clip_frames > 1:
            assert 1 <= frames[1] - frames[0] <= max_frame_stride
        assert frames[-1] < LENGTHS[video]
        if not random_start:
            assert frames[0] % (hop or clip_frames) == 0
        is_mirrored = columns[0] > columns[-1]
        assert is_mirrored <= horizontal_flip
        left, top = int(columns.min()), int(rows[0])
        shown = np.arange(left, left + 8)
        assert np.array_equal(columns, shown[::-1] if is_mirrored else shown)
        assert np.array_equal(rows, np.arange(top, top + 8))
        width_px = 20 + 2 * video
        assert top <= 4
        assert left + 8 <= width_px
        if not random_crop:
            assert (top, left) == (2, (width_px - 8) // 2)


def test_every_start_crop_stride_and_side_is_reached(cache: FrameCache) -> None:
    everything = sampler(cache, batch_size=200, augmentation={"max_frame_stride": 2})
    seen = [traced(clip) for step in range(10) for clip in everything.batch_at(step)]
    longest = [entry for entry in seen if entry[0] == 3]
    assert {int(frames[0]) for _, frames, _, _ in longest} == set(range(41 - 4))
    assert {int(np.diff(frames)[0]) for _, frames, _, _ in seen} == {1, 2}
    assert {int(rows[0]) for _, _, rows, _ in seen} == set(range(5))
    assert {int(columns.min()) for _, _, _, columns in longest} == set(range(26 - 8 + 1))
    mirrored = np.mean([columns[0] > columns[-1] for _, _, _, columns in seen])
    assert 0.45 < mirrored < 0.55


def test_few_clips_are_enough_for_a_large_batch(tmp_path: Path) -> None:
    small = sampler(traced_cache(tmp_path, [5, 6]), batch_size=7, rank=1, world_size=2)
    assert small.clips_per_epoch == 2
    assert {traced(clip)[0] for clip in small.batch_at(0)} == {0, 1}


def test_short_videos_repeat_their_last_frame_only_if_asked(tmp_path: Path) -> None:
    short = traced_cache(tmp_path, [3])
    with pytest.raises(SourceError, match="none of the 1 videos of none gave a training clip of 5"):
        sampler(short)
    padded = sampler(short, clips={"tail": "pad"}, augmentation={"max_frame_stride": 3})
    assert {tuple(traced(clip)[1].tolist()) for clip in padded.batch_at(0)} == {(0, 1, 2, 2, 2)}


def test_frames_smaller_than_the_clip_are_refused(cache: FrameCache) -> None:
    geometry = GEOMETRY.model_copy(update={"height_px": 16, "width_px": 16})
    with pytest.raises(SourceError, match="12×20 px, clips of 16×16 px"):
        ClipSampler(cache, data_config(), geometry, seed=0, batch_size=1)


def test_held_out_clips_are_whole_apart_centred_and_spread(cache: FrameCache) -> None:
    held_out = EvaluationClips(cache, ClipConfig(hop_frames=1), GEOMETRY, max_clips=100)
    seen = [traced(clip) for clip in held_out[:].numpy()]
    assert [(video, int(frames[0])) for video, frames, _, _ in seen] == [
        (video, start) for video, length in enumerate(LENGTHS) for start in range(0, length - 4, 5)
    ]
    assert [video.uri for video in held_out.videos] == [f"file:///{entry[0]}.mp4" for entry in seen]
    for video, _, rows, columns in seen:
        assert (rows[0], columns[0]) == (2, (20 + 2 * video - 8) // 2)
    few = EvaluationClips(cache, ClipConfig(), GEOMETRY, max_clips=4)
    assert len(few) == len(few[:]) == 4
    assert [video.attributes["label"] for video in few.videos] == ["0", "1", "3", "3"]
    assert np.array_equal(few[2:].numpy(), few[:].numpy()[2:])
