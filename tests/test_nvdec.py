"""The decoder on a GPU: refused in one line without one, and its own parts on whatever is there."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.decoding.cutting import InProcessCutter
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.nvdec_decoder import NvdecDecoder, resized_on_device
from pipeline.errors import PipelineError, RecordError
from pipeline.preprocessing import FramePreprocessor, PreprocessConfig
from sweettok.errors import ConfigError
from tests import video_factory as factory
from tests.decoding_runs import CONFIG, settings, why_no_torchcodec

NAMED = DecodeConfig(decoders=("torchcodec_cuda", "pyav"))
needs_torchcodec = pytest.mark.skipif(
    why_no_torchcodec() is not None, reason="needs torchcodec and FFmpeg's libraries"
)
needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def needs_gpu() -> None:
    if not torch.cuda.is_available() and os.environ.get("REQUIRE_GPU") != "1":
        pytest.skip("needs a GPU")


class OnTheCpu(NvdecDecoder):
    """The same reading and resizing, with torchcodec's decoding on the CPU."""

    device = "cpu"


@needs_torchcodec
@needs_no_gpu
def test_without_a_gpu_the_job_stops_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="sees no CUDA GPU"):
        InProcessCutter(settings(NAMED))
    path = factory.make_video(tmp_path / "a.mp4")
    with pytest.raises(PipelineError, match="sees no CUDA GPU"):
        next(IsolatedCutter(settings(NAMED)).cut("torchcodec_cuda", str(path)))


@pytest.mark.parametrize("resize", ["short_side", "stretch"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "yuv_bicubic"])
def test_its_resize_is_the_one_of_the_other_decoders(resize: str, interpolation: str) -> None:
    y, x = np.mgrid[:90, :160]
    waves = [np.sin(x / 7 + y / 31), np.sin(x / 23 - y / 9), np.cos(x / 15 + y / 17)]
    frame = (128 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)
    config = PreprocessConfig(resize=resize, interpolation=interpolation)
    preprocess = FramePreprocessor(config, 48, 48)
    resized = resized_on_device(torch.from_numpy(frame)[None], preprocess, 160).numpy()
    assert (resized.shape, resized.dtype) == ((1, 48, 48, 3), np.uint8)
    assert np.abs(resized[0].astype(int) - preprocess(frame)).max() <= 5


@needs_torchcodec
def test_frames_come_in_order_and_resized(tmp_path: Path) -> None:
    path = factory.make_video(tmp_path / "a.mp4", width_px=192, height_px=96)
    preprocess = FramePreprocessor(PreprocessConfig(resize="stretch"), 32, 64)
    with OnTheCpu(str(path), CONFIG) as video:
        found = dict(video.read_frames([3, 4, 39], preprocess))
    assert list(found) == [3, 4, 39]
    assert all(frame.shape == (32, 64, 3) for frame in found.values())
    assert [factory.frame_number(frame) for frame in found.values()] == [3, 4, 39]


@needs_torchcodec
@pytest.mark.parametrize("quarter_turns", [1, 2])
def test_turned_videos_are_left_to_others(tmp_path: Path, quarter_turns: int) -> None:
    path = factory.rotate(factory.make_video(tmp_path / "a.mp4", num_frames=3), quarter_turns)
    with pytest.raises(RecordError, match="turned or mirrored"):
        OnTheCpu(str(path), CONFIG)


def test_the_gpu_shows_the_same_frames(tmp_path: Path) -> None:
    needs_gpu()
    path = factory.make_video(tmp_path / "a.mp4", width_px=320, height_px=192)
    with NvdecDecoder(str(path), CONFIG) as video:
        numbers = [factory.frame_number(frame) for _, frame in video.read_frames(range(40))]
    assert numbers == list(range(40))


def test_a_decode_task_reserves_a_gpu_where_it_needs_one() -> None:
    assert DecodeConfig().num_gpus == 0
    assert 0 < NAMED.num_gpus < 1
    assert DecodeConfig(decoders=("torchcodec_cuda",), num_gpus_per_task=0.5).num_gpus == 0.5


@pytest.mark.parametrize(
    ("decoders", "share"), [(["pyav"], 0.25), (["torchcodec_cuda", "pyav"], 0.0)]
)
def test_a_gpu_for_nobody_and_nobody_for_a_gpu_are_one_error(
    decoders: list[str], share: float
) -> None:
    values = {"decoders": decoders, "num_gpus_per_task": share}
    with pytest.raises(ConfigError, match=r"num_gpus_per_task is 0.*leave num_gpus_per_task out"):
        DecodeConfig.from_mapping(values)
