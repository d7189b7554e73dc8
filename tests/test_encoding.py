"""The encode stage: whose clips share batches, what is copied, and that no batch holds up another.

Ids of the stage are compared with the model's own, clip by clip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.data
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.actors import CommitTarget, Encoder
from pipeline.dataset import CommitConfig, TokenDataset
from pipeline.device_batches import BatchShape, CudaBatches, HostBatches
from pipeline.encode_config import EncodeConfig
from pipeline.encoding import EncodeStage
from pipeline.errors import PipelineError
from pipeline.records import Clip, ClipWindow, TokenizedClip, UnitEnd
from pipeline.storage import StorageConfig
from pipeline.transport import records_to_table, table_to_records
from sweettok import SweetTok, Tokens, pixels_to_video
from sweettok.errors import ConfigError, ShapeError
from tests.tiny_models import tiny_config
from tests.token_samples import SOURCE, sample_lineage, work_unit

GEOMETRY = tiny_config().geometry
CLIP_SHAPE = (GEOMETRY.num_frames, GEOMETRY.height_px, GEOMETRY.width_px, 3)
NUM_CLIPS = 20

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("REQUIRE_GPU") != "1",
    reason="needs a CUDA device (REQUIRE_GPU=1 makes this a failure)",
)


def noise_clips(number: int = NUM_CLIPS) -> list[Clip]:
    """Clips whose frames are read-only views, as those that come out of Arrow tables."""
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 256, CLIP_SHAPE, np.uint8).tobytes() for _ in range(number)]
    return [
        Clip(
            work_unit("a.mp4"),
            ClipWindow(index, tuple(range(GEOMETRY.num_frames)), 0.0, 1.0),
            SOURCE,
            np.frombuffer(each, np.uint8).reshape(CLIP_SHAPE),
        )
        for index, each in enumerate(pixels)
    ]


def model_ids(directory: str, clips: Sequence[Clip], device: str = "cpu") -> list[np.ndarray]:
    """What the model itself gives for each clip alone."""
    model = SweetTok.from_pretrained(directory).to(device)
    pixels = [torch.tensor(clip.frames)[None].to(device) for clip in clips]
    return [_row(model.encode(pixels_to_video(each))) for each in pixels]


def _row(tokens: Tokens) -> np.ndarray:
    return torch.cat([tokens.spatial, tokens.temporal], dim=1)[0].cpu().numpy()


def stage_ids(tokenized: Sequence[TokenizedClip]) -> list[np.ndarray]:
    return [np.concatenate([each.spatial_tokens, each.temporal_tokens]) for each in tokenized]


@pytest.fixture
def make_stage(tokenizer_directory: str) -> Callable[..., EncodeStage]:
    def make(*, use_gpu: bool = False, **settings: Any) -> EncodeStage:
        config = EncodeConfig.from_mapping({"psnr_fraction": 0.0} | settings)
        stage = EncodeStage(tokenizer_directory, config, use_gpu=use_gpu)
        stage.setup()
        return stage

    return make


@pytest.mark.parametrize("batch_size", [1, 8, 32])
def test_ids_are_the_models_own_whoever_shares_the_batch(
    make_stage: Callable[..., EncodeStage], tokenizer_directory: str, batch_size: int
) -> None:
    clips = noise_clips()
    expected = model_ids(tokenizer_directory, clips)
    stage = make_stage(batch_size=batch_size)
    assert np.array_equal(stage_ids(stage.process(clips)), expected)
    thirds = [clips[first::3] for first in range(3)]
    with ThreadPoolExecutor(3) as threads:
        for first, tokenized in enumerate(threads.map(stage.process, thirds)):
            assert np.array_equal(stage_ids(tokenized), expected[first::3])
            assert [each.clip_id for each in tokenized] == [clip.clip_id for clip in thirds[first]]
    assert stage.process([]) == []
    assert all(each.spatial_tokens.dtype == np.int16 for each in stage.process(clips[:2]))


def test_batches_are_gathered_in_one_memory_that_is_used_again() -> None:
    places, sums = set(), []

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        places.add(pixels.data_ptr())
        sums.append(len(pixels))
        return pixels.flatten(1).sum(1, keepdim=True).to(torch.int16)

    batches = HostBatches(encode, BatchShape(8, CLIP_SHAPE, 1))
    clips = noise_clips()
    for first in range(0, NUM_CLIPS, 8):
        part = clips[first : first + 8]
        for ids, clip in zip(batches.start(part).results(), part, strict=True):
            assert ids[0] == np.int64(clip.frames.sum()).astype(np.int16)
    assert len(places) == 1
    assert sums == [8, 8, 4]


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for a device's results, on whatever device it runs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        if "_local_scalar_dense" in name or "nonzero" in name:
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


def test_a_batch_can_be_queued_without_waiting_for_its_results(model: SweetTok) -> None:
    video = pixels_to_video(torch.from_numpy(noise_clips(1)[0].frames.copy())[None])
    with NoWaiting(), pytest.raises(AssertionError, match="waits for the device"):
        model.encode(video)
    expected = model.encode(video)
    for quantizer in (model.spatial_quantizer, model.temporal_quantizer):
        quantizer.refuses_missing = False
    with NoWaiting():
        assert _row(model.encode(video)).tolist() == _row(expected).tolist()


def test_compiled_kernels_need_a_gpu_and_are_part_of_the_lineage(
    make_stage: Callable[..., EncodeStage],
) -> None:
    with pytest.raises(PipelineError, match=r"encode\.compiled is true, but .* no GPU"):
        make_stage(compiled=True)
    for compiled in (False, True):
        for batch_invariant in (False, True):
            config = EncodeConfig(compiled=compiled, batch_invariant=batch_invariant)
            assert EncodeConfig.from_arithmetic(config.arithmetic) == config
    assert EncodeConfig(compiled=True).arithmetic == "fp32, compiled"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_pytorch_cannot_use_is_one_readable_error(
    make_stage: Callable[..., EncodeStage],
) -> None:
    with pytest.raises(PipelineError, match=r"was given a GPU, but PyTorch .* sees none"):
        make_stage(use_gpu=True)


def test_shares_of_gpus() -> None:
    assert EncodeConfig().num_gpus(has_gpu=True) == 1.0
    assert EncodeConfig().num_gpus(has_gpu=False) == 0.0
    half = EncodeConfig(num_gpus_per_actor=0.5)
    assert half.num_gpus(has_gpu=False) == 0.5
    with pytest.raises(ConfigError, match="num_gpus_per_actor"):
        EncodeConfig.from_mapping({"num_gpus_per_actor": 2})


@pytest.mark.ray
def test_encoder_actors_may_be_called_by_several_threads(
    ray_cluster: None, tokenizer_directory: str, tmp_path: Path
) -> None:
    """The pool that GPU encoders run in: calls at one time share batches, nothing is mixed up."""
    dataset = TokenDataset.create_or_open(str(tmp_path / "tokens"), sample_lineage())
    dataset.store_tokenizer(tokenizer_directory)
    clips = noise_clips(30)
    tables = [
        records_to_table([*clips[first : first + 3], UnitEnd(clips[0].unit, 3)])
        for first in range(0, 30, 3)
    ]
    encoded = ray.data.from_blocks(tables).map_batches(
        Encoder,
        fn_constructor_args=(
            CommitTarget(dataset.uri, StorageConfig(), "run", CommitConfig()),
            EncodeConfig(batch_size=4, psnr_fraction=1.0),
            False,
        ),
        batch_format="pyarrow",
        batch_size=4,
        num_cpus=0.5,
        compute=ray.data.ActorPoolStrategy(
            size=1,
            max_concurrent_calls_per_actor=EncodeConfig().num_concurrent_calls(use_gpu=True),
            enable_true_multi_threading=True,
        ),
    )
    records = [
        record
        for table in encoded.iter_batches(batch_size=None, batch_format="pyarrow")
        for record in table_to_records(pa.table(table))
    ]
    found = {each.clip_id: each for each in records if isinstance(each, TokenizedClip)}
    assert len(records) - len(found) == len(tables)
    tokenized = [found[clip.clip_id] for clip in clips]
    assert np.array_equal(stage_ids(tokenized), model_ids(tokenizer_directory, clips))
    assert all(each.psnr_db is not None for each in tokenized)


@needs_gpu
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"compiled": True}])
def test_on_a_gpu_ids_depend_on_no_neighbour(
    make_stage: Callable[..., EncodeStage], tokenizer_directory: str, settings: dict[str, Any]
) -> None:
    clips = noise_clips()
    stage = make_stage(use_gpu=True, batch_size=8, **settings)
    together = stage_ids(stage.process(clips))
    assert np.array_equal(together, [stage_ids(stage.process([clip]))[0] for clip in clips])
    with ThreadPoolExecutor(6) as threads:
        apart = threads.map(stage.process, [[clip] for clip in clips])
        assert np.array_equal(together, [stage_ids(each)[0] for each in apart])
    expected = model_ids(tokenizer_directory, clips, device="cuda")
    assert np.mean(np.array(together) != expected) < 0.05
    assert stage.device_busy_s > 0


@needs_gpu
def test_starting_batches_on_a_gpu_never_waits_for_it(
    make_stage: Callable[..., EncodeStage],
) -> None:
    stage = make_stage(use_gpu=True, batch_size=4)
    clips = noise_clips(12)
    before = stage_ids(stage.process(clips))
    batches = stage._batches
    assert isinstance(batches, CudaBatches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        started = [batches.start(clips[first : first + 4]) for first in range(0, 12, 4)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert np.array_equal([ids for each in started for ids in each.results()], before)


@needs_gpu
def test_a_gpu_that_is_too_small_is_one_readable_error(
    make_stage: Callable[..., EncodeStage],
) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(PipelineError, match=r"no room for batches of 512 clips .* lower"):
            make_stage(use_gpu=True, batch_size=512)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_gpu
def test_on_a_gpu_a_clip_without_codes_is_refused(
    make_stage: Callable[..., EncodeStage],
) -> None:
    stage = make_stage(use_gpu=True)
    assert stage._model is not None
    with torch.no_grad():
        stage._model.encoder.patch_embedding.first_frame.weight.fill_(torch.nan)
    with pytest.raises(ShapeError, match="not finite"):
        stage.process(noise_clips(1))
