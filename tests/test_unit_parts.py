"""Long videos in parts: any number of them gives the clips of the whole, each exactly once."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import Committer, TokenDataset
from pipeline.decoding.container_scan import scan_packets
from pipeline.decoding.fallback import cut_clips
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeStage
from pipeline.engine import run_in_process
from pipeline.planning import plan_units
from pipeline.records import Clip
from pipeline.sources import list_videos
from pipeline.storage import StorageConfig
from pipeline.tokenization import TokenizeConfig, build_lineage
from pipeline.unit_parts import MAX_PARTS, split_units
from sweettok.tokenizer_manifest import read_manifest
from tests import video_factory as factory
from tests.decoding_runs import CONFIG, settings, stage_results, unit_of, why_no_torchcodec
from tests.tiny_corpus import (
    BROKEN,
    CLIPS_PER_GOOD_VIDEO,
    GOOD,
    make_corpus,
    tokenize_config,
)
from tests.tiny_models import tiny_config
from tests.token_samples import work_unit

NUM_FRAMES = 120
OPEN_GROUPS = {"codec_options": {"bf": "2", "x264-params": "open-gop=1:keyint=12:min-keyint=4"}}
OPEN_HEVC = {
    "codec": "libx265",
    "codec_options": {"x265-params": "log-level=none:keyint=12:open-gop=1"},
}
REFRESHING = {"codec_options": {"bf": "0", "x264-params": "intra-refresh=1:keyint=12:scenecut=0"}}
IRREGULAR_S = np.cumsum(
    np.random.default_rng(0).choice([0.02, 0.04, 0.1, 0.3], NUM_FRAMES)
).tolist()
FILES: dict[str, dict[str, Any]] = {
    "reordered.mp4": {"codec_options": {"bf": "3"}},
    "reordered.mkv": {"codec_options": {"bf": "3"}},
    "reordered.flv": {"codec_options": {"bf": "2"}},
    "open-groups.mp4": OPEN_GROUPS,
    "open-groups.mkv": OPEN_GROUPS,
    "open-groups.ts": OPEN_GROUPS,
    "open-groups-hevc.mp4": OPEN_HEVC,
    "open-groups-hevc.ts": OPEN_HEVC,
    "refreshing.ts": REFRESHING,
    "irregular.mp4": {"times_s": IRREGULAR_S},
    "irregular.mkv": {"times_s": IRREGULAR_S, "codec_options": {"bf": "2"}},
    "edited.mp4": {"codec_options": {"bf": "3"}},
    "fragmented.mp4": {"muxer_options": {"movflags": "frag_keyframe+empty_moov"}},
    "without-index.webm": {
        "codec": "libvpx-vp9",
        "codec_options": {"cpu-used": "8"},
        "muxer_options": {"live": "1"},
    },
    "hidden-references.webm": {
        "codec": "libvpx",
        "codec_options": {"lag-in-frames": "16", "auto-alt-ref": "1"},
    },
    "av1.webm": {"codec": "libsvtav1", "codec_options": {"preset": "11"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "codec_options": {"bf": "2"}},
    "mpeg2.ts": {"codec": "mpeg2video", "codec_options": {"bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "animation.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


def make(path: Path, **changes: Any) -> Path:
    options = FILES[path.name] | changes
    if not factory.has_encoder(options.get("codec", "libx264")):
        pytest.skip("this build of FFmpeg has no such encoder")
    factory.make_video(path, num_frames=NUM_FRAMES, **options)
    return factory.hide_first_frames(path, 17, 25) if path.name == "edited.mp4" else path


def clips_in_parts(
    path: Path, num_parts: int, decode: DecodeConfig = CONFIG, **clips: Any
) -> list[Clip]:
    unit = unit_of(path)
    return [
        clip
        for index in range(num_parts)
        for clip in cut_clips(
            str(path),
            replace(unit, part_index=index, num_parts=num_parts),
            settings(decode, **clips),
        )
    ]


def assert_same(clips: list[Clip], others: list[Clip]) -> None:
    assert [clip.clip_id for clip in clips] == [clip.clip_id for clip in others]
    for clip, other in zip(clips, others, strict=True):
        assert (clip.window, clip.source) == (other.window, other.source)
        assert np.array_equal(clip.frames, other.frames)


@pytest.mark.parametrize("name", FILES)
def test_parts_give_the_clips_of_the_whole(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / name)
    whole = list(cut_clips(str(path), unit_of(path), settings()))
    assert len(whole) > 7
    for num_parts in (1, 2, 3, 7):
        assert_same(clips_in_parts(path, num_parts), whole)


def test_clips_that_overlap_or_leave_gaps_come_in_parts_too(tmp_path: Path) -> None:
    path = make(tmp_path / "irregular.mkv")
    policies: list[dict[str, Any]] = [
        {"hop_frames": 3, "tail": "shift_back"},
        {"hop_frames": 11, "frame_stride": 2, "tail": "pad"},
        {"target_fps": 7.5},
    ]
    for policy in policies:
        whole = list(cut_clips(str(path), unit_of(path), settings(**policy)))
        for num_parts in (2, 5):
            assert_same(clips_in_parts(path, num_parts, **policy), whole)


@pytest.mark.parametrize("decoder", ["pyav_two_pass", "decord", "torchcodec"])
def test_every_decoder_knows_parts(tmp_path: Path, decoder: DecoderName) -> None:
    if decoder == "torchcodec" and (reason := why_no_torchcodec()):
        pytest.skip(reason)
    path = make(tmp_path / "open-groups.mp4")
    decode = DecodeConfig(isolation="none", decoders=(decoder,))
    whole = list(cut_clips(str(path), unit_of(path), settings(decode)))
    assert {clip.source.decoder for clip in whole} == {decoder}
    assert_same(clips_in_parts(path, 3, decode), whole)


def test_a_share_of_the_clips_crosses_to_the_child(tmp_path: Path) -> None:
    path = make(tmp_path / "reordered.mp4")
    parts = settings(DecodeConfig())
    unit = replace(unit_of(path), part_index=2, num_parts=3)
    cutter = IsolatedCutter(parts)
    clips = list(cut_clips(str(path), unit, parts, cutter))
    cutter.close()
    assert [clip.window.clip_index for clip in clips] == list(range(16, 24))
    assert_same(clips, list(cut_clips(str(path), unit, settings())))


def test_only_the_part_with_the_damage_decodes_it(tmp_path: Path) -> None:
    """That is: a part begins at a key frame before it and ends with its last frame."""
    size = {"width_px": 320, "height_px": 240}
    sound = list(clips_in_parts(make(tmp_path / "reordered.mp4", **size), 4))
    path = factory.damage(tmp_path / "reordered.mp4", 0.55, 500)
    unit = unit_of(path)
    ends, clips = [], []
    for index in range(4):
        got, end = stage_results(path, unit=replace(unit, part_index=index, num_parts=4))
        ends.append(end)
        clips += got if end.quarantine is None else []
    damaged = [index for index, end in enumerate(ends) if end.quarantine is not None]
    assert len(damaged) == 1
    assert [end.num_clips for end in ends].count(6) == 3
    kept = [clip for clip in sound if clip.window.clip_index // 6 not in damaged]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(clips, kept, strict=True))


def test_a_file_that_misleads_from_its_beginning_is_found_out_by_every_part(
    tmp_path: Path,
) -> None:
    """Its first packets give no frame; a part that jumped over them would count differently."""
    path = make(tmp_path / "open-groups.ts", codec_options={"bf": "0"})
    content = path.read_bytes()
    start = len(content) // 188 // 10 * 188
    path.write_bytes(content[: 3 * 188] + content[start:])
    whole = list(cut_clips(str(path), unit_of(path), settings()))
    assert {clip.source.decoder for clip in whole} == {"pyav_two_pass"}
    assert_same(clips_in_parts(path, 3), whole)


def test_key_frames_that_do_not_start_anew_are_no_seek_points(tmp_path: Path) -> None:
    for name, is_clean in (("open-groups.ts", True), ("refreshing.ts", False)):
        scan = scan_packets(str(make(tmp_path / name)), CONFIG)
        assert scan.seek_points.are_all_key_frames_clean is is_clean
        point = scan.seek_points.before(scan.timestamps, NUM_FRAMES - 1)
        assert (point is not None) is is_clean


def test_more_parts_than_clips_leave_some_empty(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "short.mp4", num_frames=11)
    ends = []
    for index in range(5):
        clips, end = stage_results(path, unit=replace(unit_of(path), part_index=index, num_parts=5))
        assert (end.num_clips, end.quarantine) == (len(clips), None)
        ends.append(end.num_clips)
    assert sorted(ends) == [0, 0, 0, 1, 1]


@given(st.lists(st.integers(0, 10**9), max_size=30), st.none() | st.integers(1, 10**8))
def test_splitting(sizes: list[int], part_bytes: int | None) -> None:
    units = [replace(work_unit(str(n)), size_bytes=size) for n, size in enumerate(sizes)]
    parts = split_units(units, part_bytes, num_workers=2)
    assert [p.video_id for p in parts if p.part_index == 0] == [u.video_id for u in units]
    for unit in units:
        mine = [part for part in parts if part.video_id == unit.video_id]
        assert [part.part_index for part in mine] == list(range(len(mine)))
        assert {part.num_parts for part in mine} == {len(mine)}
        assert all(replace(part, part_index=0, num_parts=1) == unit for part in mine)
        if part_bytes is None or unit.size_bytes <= part_bytes:
            assert mine == [unit]
        elif len(mine) < MAX_PARTS:
            assert unit.size_bytes <= len(mine) * part_bytes < unit.size_bytes + part_bytes


def numbers_of_parts(num_workers: int, **size_bytes: int) -> dict[str, int]:
    """How many parts "auto" makes of videos with these names (an underscore for the dot)."""
    units = [
        replace(work_unit(name), uri=f"file:///v/{name.replace('_', '.')}", size_bytes=size)
        for name, size in size_bytes.items()
    ]
    found = Counter(part.video_id for part in split_units(units, "auto", num_workers))
    return {name: found[unit.video_id] for name, unit in zip(size_bytes, units, strict=True)}


def test_auto_splits_what_keeps_one_worker_longer_than_the_others() -> None:
    mib = 2**20
    assert numbers_of_parts(2, a_mp4=48 * mib) == {"a_mp4": 8}
    assert numbers_of_parts(2, a_MKV=48 * mib) == {"a_MKV": 8}
    assert numbers_of_parts(2, a_mp4=8 * mib) == {"a_mp4": 2}, "not below 4 MiB"
    assert numbers_of_parts(1, a_mp4=48 * mib) == {"a_mp4": 1}, "nobody to share it with"
    assert numbers_of_parts(2, a_avi=48 * mib) == {"a_avi": 1}, "each part from its start"
    assert numbers_of_parts(1, a_avi=1025 * mib) == {"a_avi": 3}
    assert numbers_of_parts(2, a_mp4=8193 * mib) == {"a_mp4": 17}, "not above 512 MiB"
    many = {f"v{number}_mp4": 5 * mib for number in range(50)}
    assert numbers_of_parts(2, **many, long_mp4=50 * mib) == dict.fromkeys(many, 1) | {
        "long_mp4": 2
    }
    assert numbers_of_parts(2) == {}


def test_auto_downloads_no_file_for_little_work() -> None:
    unit = replace(work_unit("a"), uri="s3://bucket/a.mp4", size_bytes=300 * 2**20)
    assert len(split_units([unit], "auto", num_workers=8)) == 3
    assert len(split_units([replace(unit, uri="file:///a.mp4")], "auto", num_workers=8)) == 32


def tokenized(config: TokenizeConfig, num_parts: int) -> polars.DataFrame:
    """The rows that a run in this process gives, every video in about `num_parts` parts."""
    geometry = tiny_config().geometry
    manifest = read_manifest(config.tokenizer)
    dataset = TokenDataset.create_or_open(
        config.dataset.uri, build_lineage(config, manifest, tiny_config())
    )
    units = list(plan_units(list_videos(config.source), dataset.finished_units())[0])
    part_bytes = max(unit.size_bytes for unit in units) // num_parts
    run_in_process(
        split_units(units, part_bytes, num_workers=2),
        DecodeStage(config.decode, config.clips, config.preprocess, geometry, StorageConfig()),
        EncodeStage(config.tokenizer, config.encode),
        Committer(dataset, "run", config.commit),
        batch_size=4,
    )
    assert dataset.quarantine().num_rows == len(BROKEN)
    return polars.read_delta(config.dataset.uri).sort("clip_id")


def test_the_rows_of_a_corpus_know_nothing_of_parts(
    tmp_path: Path, tokenizer_directory: str
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    whole, parts = (
        tokenized(tokenize_config(corpus, tokenizer_directory, tmp_path / str(num)), num)
        for num in (1, 3)
    )
    assert len(whole) == len(GOOD) * CLIPS_PER_GOOD_VIDEO
    assert whole.equals(parts)
