"""The frame cache: every frame once, found again, never half there, everywhere the same."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings, InProcessCutter
from pipeline.errors import PipelineError
from pipeline.records import (
    Clip,
    ClipWindow,
    Quarantine,
    QuarantineReason,
    UnitEnd,
    VideoInfo,
    WorkUnit,
)
from pipeline.sources import list_videos
from pipeline.storage import local_path
from pipeline.training.augmentation import ClipViews
from pipeline.training.data_config import CacheConfig, DataConfig
from pipeline.training.frame_cache import INDEX_FILE, FrameCache, ensure_local
from pipeline.training.frame_cache_building import ensure_frame_cache
from pipeline.training.frame_cache_writer import FrameCacheWriter, published
from pipeline.training.frame_recipe import FrameRecipe, covering_size
from pipeline.training.whole_frames import WholeFrameCutter, segment_spec
from sweettok.geometry import ClipGeometry
from tests.frame_corpus import recipe, traced_cache, traced_frames, unit
from tests.tiny_corpus import BROKEN, GOOD, make_corpus
from tests.video_factory import frame_number, make_video, truncate

GEOMETRY = ClipGeometry(num_frames=9, height_px=32, width_px=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus, a portrait video longer than a segment, and one that breaks off late."""
    folder = make_corpus(tmp_path_factory.mktemp("corpus"))
    make_video(folder / "portrait.mp4", num_frames=75, width_px=64, height_px=120)
    late = make_video(folder / "late.mp4", num_frames=200, muxer_options={"movflags": "faststart"})
    truncate(late, 0.9)
    return folder


def config(corpus: Path, directory: Path | str, **changes: object) -> DataConfig:
    values = {
        "source": {"uris": [str(corpus)]},
        "decode": {"isolation": "none"},
        "cache": {"directory": str(directory)},
    }
    return DataConfig.from_mapping(values | changes)


def build(
    settings: DataConfig, *, small_set_bytes: int = 2**30, evaluation: bool = False
) -> tuple[str, FrameCache]:
    """Makes (or finds) the cache of `settings` and opens it."""
    make = FrameRecipe.for_evaluation if evaluation else FrameRecipe.for_training
    frame_recipe = make(settings, GEOMETRY)
    units = [WorkUnit.from_listed(video) for video in list_videos(settings.source)]
    cache = settings.cache
    assert cache is not None
    spec = segment_spec(frame_recipe, settings.decode, settings.source.storage)
    uri, index = ensure_frame_cache(
        units, frame_recipe, spec, cache, small_set_bytes=small_set_bytes
    )
    opened = FrameCache.open(ensure_local(uri, cache.storage, cache.local_directory))
    assert opened.index == index
    return uri, opened


def frames_of(cache: FrameCache, video: int) -> np.ndarray:
    """All stored frames of a video."""
    found = cache.videos[video]
    zero = np.zeros(1, np.int64)
    views = ClipViews(zero, zero + 1, zero, zero, zero.astype(bool))
    shape = (found.num_frames, found.height_px, found.width_px)
    return cache.read_clips(np.array([video]), views, shape)[0]


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_every_frame_of_every_readable_video_is_there_once(
    corpus: Path, tmp_path: Path, isolation: str
) -> None:
    _, cache = build(config(corpus, tmp_path, decode={"isolation": isolation}))
    names = [local_path(video.uri).removeprefix(f"{corpus}/") for video in cache.videos]
    assert names == sorted((*GOOD, "portrait.mp4"))
    for number, video in enumerate(cache.videos):
        frames = frames_of(cache, number)
        expected = 75 if names[number] == "portrait.mp4" else 30
        assert [frame_number(frame) for frame in frames] == list(range(expected))
        size = (68, 36) if names[number] == "portrait.mp4" else (36, 54)
        assert (video.height_px, video.width_px) == size
    assert cache.videos[0].fps == pytest.approx(25)
    reasons = {
        local_path(video.uri).rsplit("/", 1)[-1]: video.reason for video in cache.index.unusable
    }
    assert reasons == BROKEN | {"late.mp4": "truncated"}


def test_another_frame_rate_stores_the_frames_nearest_in_time(corpus: Path, tmp_path: Path) -> None:
    slower = config(corpus, tmp_path, clips={"target_fps": 12.5, "frame_stride": 2})
    _, cache = build(slower)
    assert cache.videos[0].fps == 6.25
    assert [frame_number(frame) for frame in frames_of(cache, 0)] == list(range(0, 30, 4))


def test_held_out_frames_are_the_tokenizers_own(corpus: Path, tmp_path: Path) -> None:
    settings = config(corpus, tmp_path)
    _, cache = build(settings, evaluation=True)
    cut = CutSettings(settings.decode, ClipConfig(), settings.preprocess, GEOMETRY)
    for number, video in enumerate(cache.videos):
        clips = InProcessCutter(cut).cut("pyav", local_path(video.uri))
        tokenized = np.concatenate([clip.frames for clip in clips])
        assert np.array_equal(frames_of(cache, number)[: len(tokenized)], tokenized)


def test_a_cache_is_made_once_and_again_only_for_other_pixels(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = make_video(tmp_path / "videos" / "one.mp4")
    first = config(tmp_path / "videos", tmp_path / "cache")
    uri, cache = build(first)
    stamp = (cache.directory / INDEX_FILE).stat().st_mtime_ns
    assert build(first)[0] == uri
    other_clips = first.model_copy(update={"clips": ClipConfig(hop_frames=3, min_frames=2)})
    assert build(other_clips)[0] == uri
    assert (cache.directory / INDEX_FILE).stat().st_mtime_ns == stamp
    slower = first.model_copy(update={"clips": ClipConfig(target_fps=5)})
    assert build(slower)[0] != uri
    os.utime(video, (1, 1))
    changed, same_pixels = build(first)
    assert changed != uri
    assert same_pixels.index.fingerprint == cache.index.fingerprint
    assert build(slower)[0] != uri


def test_other_limits_make_another_cache_and_losses_are_named_each_time(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "videos").mkdir()
    for name, width_px in (("small.mp4", 96), ("large.mp4", 192)):
        make_video(tmp_path / "videos" / name, width_px=width_px)

    def cached(max_pixels_per_frame: int) -> tuple[str, FrameCache]:
        decode = {"isolation": "none", "max_pixels_per_frame": max_pixels_per_frame}
        return build(config(tmp_path / "videos", tmp_path / "cache", decode=decode))

    for _ in range(2):  # made, then found
        caplog.clear()
        uri, cache = cached(96 * 64)
        assert len(cache.videos) == 1
        assert "large.mp4 gives no frames (too_large)" in caplog.text
        assert f"1 videos are left out of {uri} for good; mend them, or remove" in caplog.text
    caplog.clear()
    other, cache = cached(192 * 64)
    assert other != uri
    assert (len(cache.videos), caplog.text) == (2, "")


def test_two_writers_of_one_remote_cache_do_not_mix(corpus: Path, tmp_path: Path) -> None:
    names = [write(tmp_path / str(n), segment_records(0, [traced_frames(0, 4, 10, 12)]), 2**20)
             .index.shards[0].file for n in range(2)]  # fmt: skip
    assert names[0] != names[1]


SEGMENTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 4)), min_size=1, max_size=12
)  # (video, frames)


@settings(max_examples=40, deadline=None)
@given(segments=SEGMENTS, order=st.randoms(use_true_random=False), shard=st.integers(1, 20_000),
       seed=st.integers(0, 2**32 - 1))  # fmt: skip
def test_storage_order_and_shards_do_not_show(
    tmp_path_factory: pytest.TempPathFactory, segments: list[tuple[int, int]],
    order: object, shard: int, seed: int,
) -> None:  # fmt: skip
    directory = tmp_path_factory.mktemp("cache")
    generator = np.random.default_rng(seed)
    videos: dict[int, list[np.ndarray]] = {}
    for video, length in segments:
        size = (length, 10, 12 + video, 3)
        videos.setdefault(video, []).append(generator.integers(0, 256, size, np.uint8))
    records = [record for video in videos for record in segment_records(video, videos[video])]
    plain = write(directory / "plain", records, 2**30)
    order.shuffle(records)  # type: ignore[attr-defined]
    shuffled = write(directory / "shuffled", [*records, *records[:3]], shard)
    assert shuffled.index.fingerprint == plain.index.fingerprint
    for number, video in enumerate(sorted(videos)):
        whole = np.concatenate(videos[video])
        for cache in (plain, shuffled):
            assert np.array_equal(frames_of(cache, number), whole)
        start, stride = generator.integers(0, len(whole)), generator.integers(1, 4)
        top, left = generator.integers(0, 3), generator.integers(0, 5)
        views = ClipViews(*(np.array([n]) for n in (start, stride, top, left)), np.array([True]))
        clip = shuffled.read_clips(np.array([number]), views, (5, 8, 8))[0]
        indices = np.minimum(
            start + stride * np.arange(5), start + (len(whole) - 1 - start) // stride * stride
        )
        shown = whole[indices, top : top + 8, left : left + 8][:, :, ::-1]
        assert np.array_equal(clip, shown)


def segment_records(video: int, pieces: list[np.ndarray]) -> list[Clip | UnitEnd]:
    records: list[Clip | UnitEnd] = [UnitEnd(unit(video), len(pieces))]
    source = VideoInfo(12, 10, 25.0, None, None, "h264", "pyav")
    for index, frames in enumerate(pieces):
        padded = np.concatenate([frames, frames[-1:]])
        window = ClipWindow(index, tuple(range(len(padded))), 0.0, 1.0, num_padded_frames=1)
        records.append(Clip(unit(video), window, source, padded))
    return records


def write(directory: Path, records: list[Clip | UnitEnd], shard_bytes: int) -> FrameCache:
    directory.mkdir()
    writer = FrameCacheWriter(directory, recipe(10, 12), shard_bytes=shard_bytes)
    for record in records:
        writer.add(record)
    writer.close()
    return FrameCache.open(directory)


def test_other_pixels_have_another_fingerprint(tmp_path: Path) -> None:
    frames = traced_frames(0, 4, 10, 12)
    changed = frames.copy()
    changed[3, 9, 11, 2] ^= 1
    first, second = (
        write(tmp_path / str(number), segment_records(0, [pixels]), 2**20).index
        for number, pixels in enumerate((frames, changed))
    )
    assert first.fingerprint != second.fingerprint


def test_an_incomplete_video_makes_no_cache(tmp_path: Path) -> None:
    whole = segment_records(0, [traced_frames(0, 4, 10, 12)] * 2)
    with pytest.raises(PipelineError, match="1 of 2 segments arrived"):
        write(tmp_path / "segment", whole[:-1], 2**20)
    with pytest.raises(PipelineError, match="a video began and did not end"):
        write(tmp_path / "end", whole[1:], 2**20)


def test_a_video_that_fails_late_leaves_no_frames(tmp_path: Path) -> None:
    fault = Quarantine(QuarantineReason.TRUNCATED, "decode", "RecordError", "breaks off")
    first = segment_records(0, [traced_frames(0, 4, 10, 12)])[1]
    records = [
        first,
        UnitEnd(unit(0), 0, fault),
        *segment_records(1, [traced_frames(1, 3, 10, 12)]),
    ]
    cache = write(tmp_path / "cache", records, 2**20)
    assert [video.video_id for video in cache.videos] == [unit(1).video_id]
    assert np.array_equal(frames_of(cache, 0), traced_frames(1, 3, 10, 12))
    assert [video.message for video in cache.index.unusable] == ["breaks off"]


def test_nothing_half_written_is_there_and_the_first_of_two_stays(tmp_path: Path) -> None:
    target = tmp_path / "caches" / "one"

    def fail() -> None:
        with published(target) as directory:
            (directory / INDEX_FILE).touch()
            (directory / "frames.u8").read_bytes()

    with pytest.raises(FileNotFoundError):
        fail()
    assert list(target.parent.iterdir()) == []
    abandoned = target.with_name(".other.1234.partial")
    abandoned.mkdir()
    with published(target) as late, published(target) as early:
        assert not abandoned.exists()
        (early / INDEX_FILE).write_text("early")
        (late / INDEX_FILE).write_text("late")
    assert (target / INDEX_FILE).read_text() == "early"
    assert list(target.parent.iterdir()) == [target]


def test_a_directory_that_cannot_be_written_is_one_clear_error(
    corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PipelineError, match=r"cannot be written: .*; choose another cache\.dir"):
        build(config(corpus, tmp_path / "file" / "frames"))


def test_damage_is_one_clear_error(tmp_path: Path) -> None:
    directory = traced_cache(tmp_path / "cache", [4]).directory
    with pytest.raises(PipelineError, match="holds no complete frame cache"):
        FrameCache.open(tmp_path / "nothing")
    truncate(next(directory.glob("frames-*.u8")), 0.5)
    with pytest.raises(PipelineError, match=r"1440 bytes, its index says 2880; remove"):
        FrameCache.open(directory)
    index = (directory / INDEX_FILE).read_text()
    (directory / INDEX_FILE).write_text(index.replace('"version": 1', '"version": 9'))
    with pytest.raises(PipelineError, match="format 9, this code reads 1"):
        FrameCache.open(directory)
    (directory / INDEX_FILE).write_text(index.replace('"fps"', '"fpz"'))
    with pytest.raises(PipelineError, match=r"videos\.0\.fpz: unknown key .*; remove the"):
        FrameCache.open(directory)
    (directory / INDEX_FILE).write_text(index[:-9])
    with pytest.raises(PipelineError, match="is no JSON"):
        FrameCache.open(directory)


def test_a_remote_cache_is_copied_once_and_checked(corpus: Path, tmp_path: Path) -> None:
    remote = f"memory://{uuid.uuid4().hex}"
    settings = config(corpus, remote)
    settings = settings.model_copy(
        update={"cache": CacheConfig(directory=remote, local_directory=str(tmp_path / "copies"))}
    )
    uri, cache = build(settings)
    assert cache.directory.parent == tmp_path / "copies"
    assert cache.index.fingerprint == build(config(corpus, tmp_path / "local"))[1].index.fingerprint
    stamp = (cache.directory / INDEX_FILE).stat().st_mtime_ns
    assert build(settings)[0] == uri
    assert (cache.directory / INDEX_FILE).stat().st_mtime_ns == stamp
    store = fsspec.filesystem("memory")
    path = f"{uri.removeprefix('memory://')}/{cache.index.shards[0].file}"
    pixels = bytearray(store.cat_file(path))
    pixels[100] ^= 255
    store.pipe_file(path, bytes(pixels))
    with pytest.raises(PipelineError, match="does not match the hash"):
        ensure_local(uri, settings.source.storage, str(tmp_path / "elsewhere"))
    store.rm(remote.removeprefix("memory://"), recursive=True)


@pytest.mark.ray
def test_ray_makes_the_same_cache(ray_cluster: None, corpus: Path, tmp_path: Path) -> None:
    _, cache = build(config(corpus, tmp_path / "ray"), small_set_bytes=0)
    _, expected = build(config(corpus, tmp_path / "here"))
    assert cache.index.fingerprint == expected.index.fingerprint
    assert cache.index.unusable == expected.index.unusable


@settings(max_examples=100, deadline=None)
@given(source=st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
       covered=st.tuples(st.integers(1, 300), st.integers(1, 300)))  # fmt: skip
def test_stored_frames_cover_the_crop_and_keep_their_aspect(
    source: tuple[int, int], covered: tuple[int, int]
) -> None:
    height_px, width_px = covering_size(source, covered)
    assert height_px >= covered[0]
    assert width_px >= covered[1]
    assert height_px <= 3 * covered[0]
    assert width_px <= 3 * covered[1]
    assert height_px == covered[0] or width_px == covered[1]
    if height_px < 3 * covered[0] and width_px < 3 * covered[1]:
        scale = max(covered[0] / source[0], covered[1] / source[1])
        assert abs(height_px - source[0] * scale) <= 0.5
        assert abs(width_px - source[1] * scale) <= 0.5


def test_a_decoder_that_shows_another_size_may_not_go_on(tmp_path: Path) -> None:
    settings = CutSettings(
        config(tmp_path, tmp_path).decode,
        ClipConfig(tail="pad"),
        recipe(36, 36).preprocess,
        GEOMETRY,
    )
    wide = make_video(tmp_path / "one.mp4", num_frames=20)
    cutter = WholeFrameCutter(settings)
    first, *rest = cutter.cut("pyav", str(wide))
    assert [clip.window.clip_index for clip in cutter.cut("pyav", str(wide), first.window)] == [
        1,
        2,
    ]
    assert [clip.frames.shape for clip in rest] == [(9, 32, 48, 3)] * 2
    make_video(wide, num_frames=20, width_px=128)
    with pytest.raises(PipelineError, match="frames of another size"):
        next(cutter.cut("pyav", str(wide), first.window))
