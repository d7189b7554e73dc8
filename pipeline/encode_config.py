"""How clips are encoded: the settings alone, without torch.

Every process of a run sees them, and only those that encode load the half gigabyte that encoding
needs (`pipeline.encoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import pydantic

from pipeline.errors import PipelineError
from pipeline.records import Clip, TokenizedClip
from sweettok.strict_config import StrictConfig

_BATCHED, _COMPILED = "batched", "compiled"
_CALLS_OF_GPU_ENCODER = 3  # of several batches each: one computed, one in line, one unpacked


class ClipEncoder(Protocol):
    """What turns clips into tokens, for the engine."""

    def setup(self) -> None:
        """Loads what is heavy; called once in the process that encodes."""

    def process(self, clips: Sequence[Clip]) -> list[TokenizedClip]:
        """Encodes one batch of clips, in their order."""

    def close(self) -> None:
        """Releases everything."""


class EncodeConfig(StrictConfig):
    """How clips are encoded.

    Attributes:
        batch_size: Clips per forward pass.
        in_decode_tasks: Whether each process that decodes encodes its own clips, so that pixels
            never leave it; encoders of their own, `num_actors` and `num_cpus_per_actor` then do not
            exist. Only on CPUs, where null means true.
        num_actors: Encoder processes of the whole run; with GPUs, one per GPU share.
        num_cpus_per_actor: CPU cores (and torch threads) of each encoder.
        num_gpus_per_actor: GPU share of each encoder, at most one GPU; 0 encodes on the CPU, null
            takes one GPU when the cluster has any. With a fraction, several encoders share a GPU:
            each is kept to that share of its memory.
        precision: "fp32", or "bf16" (autocast, GPU only). Part of the dataset's lineage: a near
            tie between two words can fall differently in another precision.
        batch_invariant: Whether an encoder on a CPU computes each clip alone, so that its ids
            cannot depend on the clips that happen to share its batch. False is faster for small
            clips, without the guarantee, and part of the dataset's lineage as well.
        compiled: Whether an encoder on a GPU fuses its kernels (torch.compile), which takes about a
            minute at its start. Part of the dataset's lineage as well.
        psnr_fraction: Share of the clips that are decoded again to store their PSNR (column
            `psnr_db`), in [0, 1]. Which ones depends on their ids alone. Each costs one pass
            through the tokenizer's decoder, about as much as encoding the clip.
    """

    batch_size: int = pydantic.Field(default=8, ge=1)
    in_decode_tasks: bool | None = None
    num_actors: int = pydantic.Field(default=1, ge=1)
    num_cpus_per_actor: float = pydantic.Field(default=1, gt=0)
    num_gpus_per_actor: float | None = pydantic.Field(default=None, ge=0, le=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_invariant: bool = True
    compiled: bool = False
    psnr_fraction: float = pydantic.Field(default=0.01, ge=0, le=1)

    @property
    def arithmetic(self) -> str:
        """What decides near ties between two words, for the lineage: "fp32", "fp32, batched" …"""
        marks = {_BATCHED: not self.batch_invariant, _COMPILED: self.compiled}
        return ", ".join([self.precision, *(mark for mark, is_set in marks.items() if is_set)])

    def num_gpus(self, *, has_gpu: bool) -> float:
        """GPU share of each encoder, on a cluster or machine that has a GPU or none."""
        if self.num_gpus_per_actor is None:
            return 1.0 if has_gpu else 0.0
        return self.num_gpus_per_actor

    def is_beside_decoding(self, num_gpus: float) -> bool:
        """Whether the processes that decode encode as well, given each encoder's GPU share.

        Raises:
            PipelineError: They should, but encoders use a GPU.
        """
        if num_gpus and self.in_decode_tasks:
            raise PipelineError(
                "encode.in_decode_tasks is true, but encoders use a GPU, which decode tasks on any "
                "node feed; leave it out, or set encode.num_gpus_per_actor to 0"
            )
        return not num_gpus and self.in_decode_tasks is not False

    def num_own_cpus(self, num_gpus: float) -> float:
        """CPU cores that all encoders of their own reserve, given each one's GPU share.

        Raises:
            PipelineError: As `is_beside_decoding`.
        """
        if self.is_beside_decoding(num_gpus):
            return 0.0
        return self.num_actors * self.num_cpus_per_actor

    def num_concurrent_calls(self, *, use_gpu: bool) -> int:
        """How many threads should call an encoder's `process` at one time.

        On a GPU so many that the next batches are there before one call's last batch is done; on
        a CPU one, since more would take the cores that it computes with.
        """
        return _CALLS_OF_GPU_ENCODER if use_gpu else 1

    def stage(self, tokenizer_directory: str | Path, *, use_gpu: bool = False) -> ClipEncoder:
        """The stage with these settings, not set up yet."""
        from pipeline.encoding import EncodeStage

        return EncodeStage(tokenizer_directory, self, use_gpu=use_gpu)

    @classmethod
    def from_arithmetic(cls, arithmetic: str, **settings: Any) -> Self:
        """The config whose `arithmetic` is the one given; `settings` are its other fields."""
        precision, *marks = arithmetic.split(", ")
        values = {
            "precision": precision,
            "batch_invariant": _BATCHED not in marks,
            "compiled": _COMPILED in marks,
        }
        return cls.from_mapping(settings | values, origin="lineage")
