"""What every side of the benchmark is made from: the units, the stages and a place of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.decode_task import UnitDecoder
from pipeline.decoding.cutting import CutSettings
from pipeline.encode_config import ClipEncoder
from pipeline.errors import PipelineError
from pipeline.records import Clip, TokenizedClip, UnitEnd, WorkUnit
from pipeline.sources import list_videos
from pipeline.stage_settings import StageSettings
from pipeline.throughput.config import PipelineBenchmarkConfig
from pipeline.throughput.variants import ClockedDecodeSpec, ClockedEncodeConfig, synthetic_units
from pipeline.tokenization import TokenizeConfig
from sweettok import SweetTokConfig
from sweettok.tokenizer_manifest import verified_manifest


@dataclass(frozen=True)
class Outcome:
    """What a side says of itself; times on the machine's monotonic clock.

    Attributes:
        num_clips: Clips that it tokenized (or decoded, where that is all it does).
        began_s: When its work began to be set up, imports done.
        ready_s: When everything that works was there.
        last_s: When the last clip was done; what comes after it is finishing.
        ended_s: When all was written.
        num_quarantined: Videos that gave no clip.
        commit_busy_s: Seconds in which the committer worked.
        object_store_bytes, spilled_bytes: Peak of the object store and all that left it for disk.
        num_gpus: GPUs that its encoders had; 0 if they computed on CPUs.
        num_processes: Processes of one stage that ran side by side, where that was all.
        device: What encoded, in words; "" if nobody looked.
        flops_per_clip: Floating-point operations of encoding a clip; 0 if nobody counted.
        matrix_flops_per_s: Rate of that device on large matrix products.
        note: What a reader of the figures must know.
    """

    num_clips: int
    began_s: float
    ready_s: float
    last_s: float
    ended_s: float
    num_quarantined: int = 0
    commit_busy_s: float = 0.0
    object_store_bytes: int = 0
    spilled_bytes: int = 0
    num_gpus: float = 0.0
    num_processes: int = 1
    device: str = ""
    flops_per_clip: float = 0.0
    matrix_flops_per_s: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Workplace:
    """One side's run.

    Attributes:
        config: The benchmark's.
        directory: Its own, for whatever it writes.
    """

    config: PipelineBenchmarkConfig
    directory: Path = field()

    @property
    def clock_directory(self) -> Path:
        """Where the stages note when they worked."""
        return self.directory / "clocks"

    @property
    def tokens_path(self) -> Path:
        """Where a side that has no dataset leaves its tokens."""
        return self.directory / "tokens.parquet"

    @cached_property
    def model_config(self) -> SweetTokConfig:
        """The tokenizer's."""
        manifest = verified_manifest(self.config.tokenizer_directory)
        return SweetTokConfig.from_mapping(manifest["config"], origin=self.config.tokenizer)

    @cached_property
    def units(self) -> list[WorkUnit]:
        """All the work, whole videos.

        Raises:
            PipelineError: The source has no video.
        """
        if self.config.mode == "synthetic_frames":
            return synthetic_units(self.config.synthetic.num_units)
        units = [WorkUnit.from_listed(video) for video in list_videos(self.config.source)]
        if not units:
            raise PipelineError("the source lists no video; there is nothing to measure")
        return units

    def tokenize_config(self) -> TokenizeConfig:
        """The run as `jobs/tokenize_corpus.py` would do it, into a fresh dataset."""
        values = {name: getattr(self.config, name) for name in StageSettings.model_fields}
        dataset = {"uri": str((self.directory / "tokens").absolute())}
        return TokenizeConfig.model_validate(values | {"dataset": dataset})

    def decode_spec(self) -> ClockedDecodeSpec:
        """Decoding as configured."""
        config = self.config
        synthetic = config.synthetic.clips_per_unit if config.mode == "synthetic_frames" else 0
        return ClockedDecodeSpec(
            CutSettings(config.decode, config.clips, config.preprocess, self.model_config.geometry),
            config.source.storage,
            clock_directory=str(self.clock_directory.absolute()),
            synthetic_clips=synthetic,
        )

    def encode_config(self) -> ClockedEncodeConfig:
        """Encoding as configured."""
        return ClockedEncodeConfig.model_validate(
            self.config.encode.model_dump()
            | {
                "clock_directory": str(self.clock_directory.absolute()),
                "is_null": self.config.mode == "null_encoder",
            }
        )

    def decoder(self) -> UnitDecoder:
        """The decode stage in this process, without a child: what decoding itself costs."""
        spec = self.decode_spec()
        decode = spec.settings.decode.model_copy(update={"isolation": "none"})
        return replace(spec, settings=replace(spec.settings, decode=decode)).stage()

    def encoder(self, *, batch_size: int | None = None) -> ClipEncoder:
        """The encode stage in this process, on its GPU where the pipeline's would be on one."""
        config = self.encode_config()
        if batch_size is not None:
            config = config.model_copy(update={"batch_size": batch_size})
        return config.stage(self.config.tokenizer_directory, use_gpu=self.uses_gpu)

    @cached_property
    def uses_gpu(self) -> bool:
        """Whether an encoder in this process computes on a GPU."""
        import torch

        num_gpus = self.config.encode.num_gpus(has_gpu=torch.cuda.is_available())
        return num_gpus > 0 and self.config.mode != "null_encoder"


def decoded(decoder: UnitDecoder, units: Iterable[WorkUnit]) -> Iterator[Clip]:
    """All clips of `units`, those of videos that turn out to be broken left out.

    The clips of one video are held until its end tells whether it is whole.
    """
    for unit in units:
        yield from decoded_video(decoder, unit)


def decoded_video(decoder: UnitDecoder, unit: WorkUnit) -> list[Clip]:
    """All clips of one unit; none if it turns out to be broken."""
    clips: list[Clip] = []
    for record in decoder.process(unit):
        if isinstance(record, UnitEnd):
            return [] if record.quarantine else clips
        clips.append(record)
    raise AssertionError("a unit without an end")


def tokenized(
    encoder: ClipEncoder, clips: Iterable[Clip], batch_size: int
) -> Iterator[TokenizedClip]:
    """The tokens of `clips`, encoded in full batches but for the last one."""
    batch: list[Clip] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == batch_size:
            yield from encoder.process(batch)
            batch = []
    yield from encoder.process(batch)
