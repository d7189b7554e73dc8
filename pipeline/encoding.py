"""The encode stage: clips in, token ids out. Knows nothing of the engine that feeds it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.batch_queue import BatchQueue
from pipeline.device_batches import (
    BatchShape,
    ClipIds,
    CudaBatches,
    Encode,
    HostBatches,
    room_on_gpu,
)
from pipeline.encode_config import EncodeConfig
from pipeline.errors import PipelineError
from pipeline.records import Clip, TokenizedClip
from sweettok import SweetTok, Tokens, pixels_to_video, video_to_pixels
from sweettok.metrics import psnr_db
from sweettok.patches import NUM_CHANNELS

PIXEL_RANGE = 255.0


class EncodeStage:
    """Encodes clips with a saved tokenizer.

    Several threads may call `process` at one time: their clips share full batches, and on a GPU the
    batches of some callers are copied and computed while others unpack theirs.

    Args:
        tokenizer_directory: Directory written by `SweetTok.save_pretrained`.
        config: Batch size, precision, threads and batch invariance.
        use_gpu: Whether to encode on the current CUDA device.
    """

    def __init__(
        self, tokenizer_directory: str | Path, config: EncodeConfig, *, use_gpu: bool = False
    ) -> None:
        self._directory = tokenizer_directory
        self._config = config
        self._device = torch.device("cuda" if use_gpu else "cpu")
        self._model: SweetTok | None = None
        self._batches: HostBatches | CudaBatches | None = None
        self._queue: BatchQueue[Clip, ClipIds] | None = None
        self._measuring = threading.Lock()
        self._side_stream: torch.cuda.Stream | None = None

    def setup(self) -> None:
        """Loads the weights; called once in the process that encodes.

        Raises:
            CheckpointError: The tokenizer is incomplete or was altered.
            PipelineError: bf16 or compiled kernels were asked for without a GPU, PyTorch cannot use
                the GPU, or there is no room on it (or in this encoder's share) for a batch.
        """
        if self._device.type == "cpu":
            _check_cpu_settings(self._config)
            torch.set_num_threads(max(1, int(self._config.num_cpus_per_actor)))
        else:
            _take_share_of_gpu(self._config.num_gpus_per_actor)
        with room_on_gpu(self._config.batch_size):
            self._model = SweetTok.from_pretrained(self._directory).to(self._device)
            self._model.batch_invariant = self._config.batch_invariant
            self._batches = self._device_batches(self._model)
        self._queue = BatchQueue(
            self._batches.start, self._config.batch_size, self._batches.max_under_way
        )

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """Encodes clips, any number of them, in their order."""
        assert self._queue is not None, "setup() comes first"
        return [
            self._tokenized(clip, ids)
            for clip, ids in zip(clips, self._queue.run(clips), strict=True)
        ]

    def close(self) -> None:
        """Releases the weights."""
        self._model = self._batches = self._queue = None

    @property
    def device_busy_s(self) -> float:
        """Seconds in which a GPU computed batches so far; 0 on a CPU."""
        return self._batches.device_busy_s if self._batches else 0.0

    def psnr_db(self, tokens: Tokens, clip: Clip) -> float:
        """PSNR of one clip's tokens, decoded, against its pixels, in dB.

        Decoded alone and in fp32, as a reader of the dataset would. Rounded to 0.01 dB, for what
        is below depends on the number of threads.
        """
        assert self._model is not None, "setup() comes first"
        with self._measuring, self._beside_batches(), torch.inference_mode():
            ids = Tokens(tokens.spatial.to(self._device), tokens.temporal.to(self._device))
            decoded = video_to_pixels(self._model.decode(ids)).cpu()
        original = torch.from_numpy(np.array(clip.frames))[None]
        return round(psnr_db(original, decoded, PIXEL_RANGE).item(), 2)

    def _beside_batches(self) -> AbstractContextManager[object]:
        """Work that neither waits for the batches under way nor holds them up."""
        if self._side_stream is None:
            return nullcontext()
        return torch.cuda.stream(self._side_stream)

    def _device_batches(self, model: SweetTok) -> HostBatches | CudaBatches:
        geometry = model.config.geometry
        shape = BatchShape(
            self._config.batch_size,
            (geometry.num_frames, geometry.height_px, geometry.width_px, NUM_CHANNELS),
            model.config.num_tokens,
        )
        encode = _encoding(model, self._config)
        if self._device.type == "cpu":
            return HostBatches(encode, shape)
        for quantizer in (model.spatial_quantizer, model.temporal_quantizer):
            quantizer.refuses_missing = False  # checked once the ids are here
        self._side_stream = torch.cuda.Stream(self._device)
        return CudaBatches(encode, shape, self._device)

    def _tokenized(self, clip: Clip, ids: ClipIds) -> TokenizedClip:
        assert self._model is not None, "setup() comes first"
        spatial, temporal = np.split(ids, [self._model.config.num_spatial_tokens])
        measured = is_measured(clip.clip_id, self._config.psnr_fraction)
        psnr = self.psnr_db(_tokens(spatial, temporal), clip) if measured else None
        return TokenizedClip(clip.unit, clip.window, clip.source, spatial, temporal, psnr)


def is_measured(clip_id: str, fraction: float) -> bool:
    """Whether a clip is among the `fraction` of all clips whose PSNR is stored."""
    return int(clip_id[:16], 16) < fraction * 2**64


def _check_cpu_settings(config: EncodeConfig) -> None:
    remedy = "or give it one with encode.num_gpus_per_actor"
    if config.precision == "bf16":
        raise PipelineError(
            "encode.precision is bf16, but this encoder has no GPU (bf16 on most CPUs is "
            f"hundreds of times slower); use fp32 {remedy}"
        )
    if config.compiled:
        raise PipelineError(
            "encode.compiled is true, but this encoder has no GPU, whose kernels it compiles; "
            f"set it to false {remedy}"
        )


def _take_share_of_gpu(share: float | None) -> None:
    """Keeps this process to its share of the GPU's memory: Ray counts shares, but guards none."""
    if not torch.cuda.is_available():
        raise PipelineError(
            f"this encoder was given a GPU, but PyTorch {torch.__version__} sees none; install a "
            "build of PyTorch for the node's driver, or set encode.num_gpus_per_actor to 0"
        )
    if share is not None and share < 1:
        torch.cuda.set_per_process_memory_fraction(share)


def _encoding(model: SweetTok, config: EncodeConfig) -> Encode:
    """The whole way from pixels to ids, as the settings say."""

    def ids_of(pixels: Tensor) -> Tensor:
        tokens = model.encode(pixels_to_video(pixels))
        return torch.cat([tokens.spatial, tokens.temporal], dim=1).to(torch.int16)

    device = next(model.parameters()).device.type
    if config.compiled:
        model.refresh_codes()  # a compiled graph reads the stored codes without asking their age
        ids_of = torch.compile(ids_of, fullgraph=True, dynamic=False)
    # What the model would compute clip by clip becomes floats clip by clip: less memory.
    is_single = device == "cpu" and config.batch_invariant

    def encode(pixels: Tensor) -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16"),
        ):
            parts = pixels.split(1 if is_single else max(1, len(pixels)))
            return torch.cat([ids_of(part) for part in parts])

    return encode


def _tokens(*ids: ClipIds) -> Tokens:
    """The tokens of one clip, as a batch of one."""
    spatial, temporal = (torch.from_numpy(part.astype(np.int64))[None] for part in ids)
    return Tokens(spatial, temporal)
