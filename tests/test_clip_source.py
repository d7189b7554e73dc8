"""From videos to batches: the split, the prepared data, reading ahead, and the stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import ray.data
import torch

from pipeline.errors import SourceError
from pipeline.training.clip_stream import StreamedClips, streamed_windows
from pipeline.training.data_config import DataConfig
from pipeline.training.prefetching import prefetched
from pipeline.training.prepared_data import PreparedData, prepare_data, split_units
from sweettok.errors import ConfigError
from sweettok.geometry import ClipGeometry
from tests.tiny_corpus import make_corpus
from tests.video_factory import frame_number, make_video

GEOMETRY = ClipGeometry(num_frames=9, height_px=32, width_px=32)
PLAIN = {"random_crop": False, "horizontal_flip": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def config(corpus: Path, **changes: object) -> DataConfig:
    values = {"source": {"uris": [str(corpus)]}, "decode": {"isolation": "none"}}
    return DataConfig.from_mapping(values | changes)


def prepared_from(settings: DataConfig, *geometries: ClipGeometry) -> PreparedData:
    return prepare_data(settings, split_units(settings), GEOMETRY, geometries or None)


def numbers(batch: torch.Tensor) -> list[list[int]]:
    """The frame numbers of each clip."""
    return [[frame_number(frame) for frame in clip] for clip in batch.numpy()]


def test_prepared_data_gives_the_same_batches_after_a_restart(corpus: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    make_video(held_out / "other.mp4", num_frames=40)
    cached = config(
        corpus,
        clips={"hop_frames": 4},
        augmentation=PLAIN,
        preprocess={"resize": "stretch"},
        cache={"directory": str(tmp_path / "frames")},
        validation={"source": {"uris": [str(held_out)]}, "max_clips": 3},
    )
    prepared = PreparedData.from_mapping(prepared_from(cached).to_mapping())
    assert prepared.ray_datasets(split_units(cached)) == {}
    assert prepared.fingerprints.keys() == {"training", "held-out"}
    assert prepared.fingerprints == prepared_from(cached).fingerprints

    def batches(first_step: int, count: int) -> list[torch.Tensor]:
        source = prepared.clip_source(GEOMETRY, seed=7, batch_size=3, rank=1, world_size=2)
        return list(source.batches(first_step, count))

    undisturbed = batches(0, 20)
    restored = batches(0, 8) + batches(8, 12)
    assert all(map(torch.equal, undisturbed, restored))
    for batch in undisturbed:
        assert batch.shape == (3, 9, 32, 32, 3)
        for clip in numbers(batch):
            assert clip == list(range(clip[0], clip[0] + 9))
    assert len({tuple(clip) for batch in undisturbed for clip in numbers(batch)}) > 12
    evaluated = prepared.evaluation_clips(GEOMETRY)
    assert evaluated is not None
    assert numbers(evaluated[:]) == [list(range(start, start + 9)) for start in (0, 18, 27)]
    images = prepared.evaluation_clips(GEOMETRY.image)
    assert images is not None
    assert images[:].shape == (3, 1, 32, 32, 3)


def test_no_held_out_clips_unless_asked_for(corpus: Path, tmp_path: Path) -> None:
    cached = config(corpus, cache={"directory": str(tmp_path)})
    assert prepared_from(cached).evaluation_clips(GEOMETRY) is None


def test_clips_that_a_later_phase_lacks_are_missed_at_once(corpus: Path, tmp_path: Path) -> None:
    cached = config(corpus, cache={"directory": str(tmp_path)})
    longer = ClipGeometry(num_frames=29, height_px=32, width_px=32)
    prepared_from(cached, GEOMETRY.image, longer)
    longest = ClipGeometry(num_frames=33, height_px=32, width_px=32)
    with pytest.raises(SourceError, match="gave a training clip of 33 frames"):
        prepared_from(cached, GEOMETRY.image, longest)


def test_a_limit_on_clips_leaves_images_the_same_part_of_a_video(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "one.mp4", num_frames=60)
    limited = config(
        tmp_path / "videos",
        clips={"max_clips_per_video": 2},
        augmentation=PLAIN,
        preprocess={"resize": "stretch"},
        cache={"directory": str(tmp_path / "frames")},
    )
    source = prepared_from(limited).clip_source(
        GEOMETRY.image, seed=0, batch_size=8, rank=0, world_size=1
    )
    shown = {clip[0] for batch in source.batches(0, 20) for clip in numbers(batch)}
    assert shown == set(range(18))


def test_a_fraction_holds_out_whole_videos_whatever_else_is_there(tmp_path: Path) -> None:
    def split(num_videos: int, fraction: float) -> tuple[set[str], set[str]]:
        for number in range(num_videos):
            (tmp_path / f"{number}.mp4").touch()
        parts = config(tmp_path, cache={"directory": "none"}, validation={"fraction": fraction})
        training, held_out = split_units(parts)
        return {unit.uri for unit in training}, {unit.uri for unit in held_out}

    training, held_out = split(100, 0.3)
    assert len(training) + len(held_out) == len(training | held_out) == 100
    assert 15 < len(held_out) < 45
    more_training, more_held_out = split(300, 0.3)
    assert training < more_training
    assert held_out < more_held_out
    assert held_out < split(100, 0.6)[1]
    with pytest.raises(SourceError, match="of 300 listed videos 300 would be left to train on"):
        split(300, 1e-9)


def test_a_held_out_source_is_never_trained_on(corpus: Path) -> None:
    apart = corpus / "sub"
    parts = config(
        corpus, cache={"directory": "none"}, validation={"source": {"uris": [str(apart)]}}
    )
    training, held_out = split_units(parts)
    assert [unit.uri.rsplit("/", 2)[1:] for unit in held_out] == [["sub", "c.mkv"]]
    assert not {unit.video_id for unit in training} & {unit.video_id for unit in held_out}
    with pytest.raises(SourceError, match="of 1 listed videos 0 would be left"):
        split_units(parts.model_copy(update={"source": parts.validation.source}))  # type: ignore[union-attr]


def test_impossible_choices_are_refused(corpus: Path) -> None:
    with pytest.raises(ConfigError, match=r"validation: give either a source .* or a fraction"):
        config(corpus, cache={"directory": "x"}, validation={})
    with pytest.raises(ConfigError, match=r"set validation\.cache or cache"):
        config(corpus, validation={"fraction": 0.5})


def test_a_source_without_usable_videos_is_one_clear_error(corpus: Path, tmp_path: Path) -> None:
    broken = [str(corpus / "zero.mp4"), str(corpus / "text.mp4")]
    unusable = config(corpus, source={"uris": broken}, cache={"directory": str(tmp_path)})
    with pytest.raises(SourceError, match=r"none of the 2 videos of .*zero\.mp4"):
        prepared_from(unusable)


def test_reading_ahead_keeps_order_bounds_and_errors() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number
        raise SourceError("broken at 10")

    ahead = prefetched(items(), 3)
    assert made == []
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    time.sleep(0.02)
    assert made == [0, 1, 2, 3]
    assert [next(ahead) for _ in range(9)] == list(range(1, 10))
    with pytest.raises(SourceError, match="broken at 10"):
        next(ahead)
    assert list(prefetched(iter("ab"), 5)) == ["a", "b"]


@pytest.mark.parametrize("leave", ["close", "forget"])
def test_leaving_early_ends_the_thread_and_the_producer(leave: str) -> None:
    ended = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    ahead = prefetched(items(), 2)
    next(ahead)
    if leave == "close":
        ahead.close()
    else:
        del ahead
    assert ended.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def streamed(
    shard: ray.data.DataIterator, settings: DataConfig, geometry: ClipGeometry
) -> StreamedClips:
    """Batches of five clips or images from windows for `GEOMETRY`."""
    return StreamedClips(
        shard, settings, geometry, window_geometry=GEOMETRY, seed=1, batch_size=5, rank=0
    )


def make_gradients(folder: Path) -> Path:
    """Two videos of 30 frames, red telling the frame and green the column, and a broken one."""
    frames = np.zeros((30, 64, 96, 3), np.uint8)
    frames[..., 0] = np.arange(30)[:, None, None] * 8
    frames[..., 1] = np.linspace(0, 255, 96)
    for name in ("a.mp4", "b.mp4"):
        make_video(folder / name, frames=list(frames), codec_options={"qp": "4"})
    (folder / "zero.mp4").touch()
    return folder


@pytest.mark.ray
def test_the_stream_gives_random_clips_of_all_readable_videos(
    ray_cluster: None, tmp_path: Path
) -> None:
    streaming = config(
        make_gradients(tmp_path), augmentation={"max_frame_stride": 2}, shuffle_buffer_clips=4
    )
    units, _ = split_units(streaming)
    shard = streamed_windows(units, streaming, GEOMETRY).materialize().iterator()
    source = streamed(shard, streaming, GEOMETRY)
    clips = torch.cat(list(source.batches(0, 12))).double()
    assert clips.shape == (60, 9, 32, 32, 3)
    frames = (clips[..., 0].mean(dim=(2, 3)) / 8).round().int()
    strides = frames.diff(dim=1)
    assert (strides == strides[:, :1]).all()
    assert set(strides.unique().tolist()) == {1, 2}
    assert frames.max() <= 29
    assert len(frames[:, 0].unique()) > 12
    columns = clips[..., 1].mean(dim=(1, 2))
    is_mirrored = columns[:, 0] > columns[:, -1]
    assert 15 < is_mirrored.sum() < 45
    assert len((columns.mean(dim=1) / 5).round().unique()) > 10
    images = streamed(shard, streaming, GEOMETRY.image).batches(0, 20)
    shown = torch.cat(list(images)).double()
    assert shown.shape == (100, 1, 32, 32, 3)
    assert len((shown[..., 0].mean(dim=(1, 2, 3)) / 8).round().unique()) > 20


@pytest.mark.ray
def test_a_stream_without_clips_is_one_clear_error(ray_cluster: None, corpus: Path) -> None:
    streaming = config(corpus, clips={"min_frames": 31})
    units, _ = split_units(streaming)
    shard = streamed_windows(units[:1], streaming, GEOMETRY).iterator()
    source = streamed(shard, streaming, GEOMETRY)
    with pytest.raises(SourceError, match="this worker got no training clip"):
        next(source.batches(0, 1))


@pytest.mark.ray
@pytest.mark.parametrize("num_frames", [25, 30])
def test_the_stream_reaches_the_end_of_a_video_at_every_stride(
    ray_cluster: None, tmp_path: Path, num_frames: int
) -> None:
    frames = np.zeros((num_frames, 64, 64, 3), np.uint8)
    frames[..., 0] = np.arange(num_frames)[:, None, None] * 8
    make_video(tmp_path / "a.mp4", frames=list(frames), codec_options={"qp": "4"})
    # Windows of 25 frames: the first of these videos is just one of them.
    streaming = config(tmp_path, augmentation={"max_frame_stride": 2})
    windows = streamed_windows(split_units(streaming).training, streaming, GEOMETRY)
    shard = windows.materialize().iterator()
    clips = torch.cat(list(streamed(shard, streaming, GEOMETRY).batches(0, 40))).double()
    shown = (clips[..., 0].mean(dim=(2, 3)) / 8).round().int()
    strides = shown[:, 1] - shown[:, 0]
    for stride in (1, 2):
        assert shown[strides == stride].unique().tolist() == list(range(num_frames))


@pytest.mark.ray
def test_two_workers_read_one_stream_phase_after_phase(ray_cluster: None, tmp_path: Path) -> None:
    streaming = config(make_gradients(tmp_path), augmentation=PLAIN, prefetch_batches=4)
    windows = streamed_windows(split_units(streaming).training, streaming, GEOMETRY)
    shards = windows.streaming_split(2, equal=True)

    def phases(rank: int) -> list[int]:
        source = streamed(shards[rank], streaming, GEOMETRY)
        return [len(list(source.batches(0, count))) for count in (1, 3, 2)]

    with ThreadPoolExecutor(2) as executor:
        waiting = [executor.submit(phases, rank) for rank in range(2)]
        assert [future.result(timeout=120) for future in waiting] == [[1, 3, 2]] * 2
