"""The encode stage: clips in, token ids out. Knows nothing of the engine that feeds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pipeline.encode_config import EncodeConfig
from pipeline.errors import PipelineError
from pipeline.records import Clip, TokenizedClip
from sweettok import SweetTok, Tokens, pixels_to_video, video_to_pixels
from sweettok.metrics import psnr_db

PIXEL_RANGE = 255.0


class EncodeStage:
    """Encodes clips with a saved tokenizer.

    Args:
        tokenizer_directory: Directory written by `SweetTok.save_pretrained`.
        config: Precision, threads and batch invariance; the batch size is the caller's business.
        use_gpu: Whether to encode on the current CUDA device.
    """

    def __init__(
        self, tokenizer_directory: str | Path, config: EncodeConfig, *, use_gpu: bool = False
    ) -> None:
        self._directory = tokenizer_directory
        self._config = config
        self._device = torch.device("cuda" if use_gpu else "cpu")
        self._model: SweetTok | None = None

    def setup(self) -> None:
        """Loads the weights; called once in the process that encodes.

        Raises:
            CheckpointError: The tokenizer is incomplete or was altered.
            PipelineError: bf16 was asked for without a GPU.
        """
        if self._config.precision == "bf16" and self._device.type == "cpu":
            raise PipelineError(
                "encode.precision is bf16, but this encoder has no GPU (bf16 on most CPUs is "
                "hundreds of times slower); use fp32 or give it one with encode.num_gpus_per_actor"
            )
        if self._device.type == "cpu":
            torch.set_num_threads(max(1, int(self._config.num_cpus_per_actor)))
        self._model = SweetTok.from_pretrained(self._directory).to(self._device)
        self._model.batch_invariant = self._config.batch_invariant

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """Encodes one batch of clips, in their order."""
        assert self._model is not None, "setup() comes first"
        if not clips:
            return []
        pixels = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        autocast = self._config.precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=autocast),
        ):
            tokens = self._model.encode(pixels_to_video(pixels.to(self._device)))
        spatial = tokens.spatial.to(torch.int16).cpu().numpy()
        temporal = tokens.temporal.to(torch.int16).cpu().numpy()
        return [
            TokenizedClip(
                clip.unit,
                clip.window,
                clip.source,
                spatial[row],
                temporal[row],
                self._recorded_psnr_db(tokens[row : row + 1], clip),
            )
            for row, clip in enumerate(clips)
        ]

    def close(self) -> None:
        """Releases the weights."""
        self._model = None

    def psnr_db(self, tokens: Tokens, clip: Clip) -> float:
        """PSNR of one clip's tokens, decoded, against its pixels, in dB.

        Decoded alone and in fp32, as a reader of the dataset would. Rounded to 0.01 dB, for what
        is below depends on the number of threads.
        """
        assert self._model is not None, "setup() comes first"
        with torch.inference_mode():
            ids = Tokens(tokens.spatial.to(self._device), tokens.temporal.to(self._device))
            decoded = video_to_pixels(self._model.decode(ids)).cpu()
        original = torch.from_numpy(np.array(clip.frames))[None]
        return round(psnr_db(original, decoded, PIXEL_RANGE).item(), 2)

    def _recorded_psnr_db(self, tokens: Tokens, clip: Clip) -> float | None:
        if not is_measured(clip.clip_id, self._config.psnr_fraction):
            return None
        return self.psnr_db(tokens, clip)


def is_measured(clip_id: str, fraction: float) -> bool:
    """Whether a clip is among the `fraction` of all clips whose PSNR is stored."""
    return int(clip_id[:16], 16) < fraction * 2**64
