"""Decodes and encodes a sample in this process and notes what that cost.

Costs are processor seconds: they hold on a machine that does other work meanwhile, too. Decoding
happens in its child process while this one encodes, as the stages of a run share the cores.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil

from pipeline.decode_task import DecodeSpec, UnitDecoder
from pipeline.encoding import EncodeStage
from pipeline.estimation.config import EstimateConfig
from pipeline.estimation.sampling import Stratum, part_of
from pipeline.records import Clip, ClipWindow, TokenizedClip, UnitEnd, VideoInfo, WorkUnit
from pipeline.transport import records_to_table, table_to_records
from sweettok import Tokens

_CLIPS_AHEAD = 2  # decoded by the child when the first one has been read
_LEAST_CLIPS = 4
_NUM_PSNR_CLIPS = 4


@dataclass(frozen=True)
class SampledVideo:
    """What became known of a video.

    Attributes:
        unit: The video, or the part of it that was decoded.
        num_clips: Clips of the whole video; 0 if it would be quarantined.
        duration_s: Its duration in seconds.
        decode_core_s: Seconds of one core for decoding the whole video.
        reason: Why it would be quarantined; None if it gives clips.
        windows: What was cut of it.
        source: What the decoder said of it; None if it gave no clip.
    """

    unit: WorkUnit
    num_clips: int
    duration_s: float
    decode_core_s: float
    reason: str | None
    windows: tuple[ClipWindow, ...] = ()
    source: VideoInfo | None = None

    @property
    def seen_bytes(self) -> float:
        """How much of it was worked on."""
        return self.unit.size_bytes / self.unit.num_parts


@dataclass(frozen=True)
class EncodingCost:
    """What encoding a clip costs.

    Attributes:
        core_s: Seconds of one core.
        gpu_s: Seconds of a whole GPU; 0 if encoders compute on CPUs.
        other_core_s: Seconds of one core for moving a clip and its tokens between processes.
        relative_error: Standard error of the larger one of the first two, as a share of it.
    """

    core_s: float
    gpu_s: float = 0.0
    other_core_s: float = 0.0
    relative_error: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """What a sample gave.

    Attributes:
        strata: What became known of each drawn video.
        encoding: What a clip costs after it was decoded; None if no video gave one.
        encoded: The clips that were encoded.
    """

    strata: list[Stratum[SampledVideo]]
    encoding: EncodingCost | None
    encoded: list[TokenizedClip]


def measure(
    strata: Sequence[Stratum[WorkUnit]],
    decode: DecodeSpec,
    encoder: EncodeStage,
    config: EstimateConfig,
    *,
    batch_size: int,
    psnr_fraction: float,
    use_gpu: bool,
) -> Measurement:
    """Decodes the sample, encodes some of its clips, and keeps nothing else.

    Args:
        strata: The drawn videos.
        decode: How they are decoded.
        encoder: Encodes them; not set up yet, and measuring no PSNR by itself.
        config: How much is looked at.
        batch_size: Clips per forward pass.
        psnr_fraction: Share of the clips whose PSNR a run would store.
        use_gpu: Whether `encoder` computes on a GPU.

    Raises:
        PipelineError: A stage cannot work here.
    """
    random = np.random.default_rng([config.seed, 1])
    num_videos = sum(len(stratum.sample) for stratum in strata)
    sampler = _Sampler(encoder, batch_size, -(-config.num_encoded_clips // num_videos), use_gpu)
    stage = decode.stage()
    stage.setup()
    encoder.setup()
    try:
        measured: list[Stratum[SampledVideo]] = []
        for stratum in strata:
            parts = [part_of(unit, config.bytes_per_video, random) for unit in stratum.sample]
            if not measured:
                sampler.warm_up(stage, parts[-1])
            videos = tuple(sampler.video(stage, unit) for unit in parts)
            measured.append(Stratum(stratum.num_videos, stratum.size_bytes, videos))
        cost = sampler.cost(psnr_fraction)
        return Measurement(measured, cost, sampler.encoded)
    finally:
        stage.close()
        encoder.close()


class _Sampler:
    """Takes clips from the decode stage, some of them to the encoder, and reads clocks."""

    def __init__(
        self, encoder: EncodeStage, batch_size: int, clips_per_video: int, use_gpu: bool
    ) -> None:
        self._encoder = encoder
        self._batch_size = batch_size
        self._clips_per_video = clips_per_video
        self._use_gpu = use_gpu
        self._waiting: list[Clip] = []
        self._last: list[Clip] = []
        self._rates: list[tuple[int, float, float]] = []  # clips, core seconds, wall seconds
        self._encode_core_s = 0.0
        self.encoded: list[TokenizedClip] = []

    def warm_up(self, stage: UnitDecoder, unit: WorkUnit) -> None:
        """Starts the decoding child, and computes one batch that does not count."""
        for record in stage.process(unit):
            if isinstance(record, Clip) and not self._last:
                self._last = [record]
                self._encoder.process([record] * self._batch_size)

    def video(self, stage: UnitDecoder, unit: WorkUnit) -> SampledVideo:
        """Decodes one video, or the part of it that `unit` is."""
        began_s = self._decoded_core_s()
        first_s = 0.0
        windows: list[ClipWindow] = []
        source: VideoInfo | None = None
        reason: str | None = None
        for record in stage.process(unit):
            if isinstance(record, UnitEnd):
                if record.quarantine is not None:
                    reason = record.quarantine.reason.value
                continue
            if not windows:
                first_s = self._decoded_core_s() - began_s
            windows.append(record.window)
            source = record.source
            if len(windows) <= self._clips_per_video:
                self._encode(record)
        spent_s = self._decoded_core_s() - began_s
        if reason is not None:
            return SampledVideo(unit, 0, 0.0, spent_s, reason)
        whole_s = _whole_cost(spent_s, first_s, len(windows), unit.num_parts)
        duration_s = _duration_s(windows, source)
        num_clips = len(windows) * unit.num_parts
        return SampledVideo(unit, num_clips, duration_s, whole_s, None, tuple(windows), source)

    def cost(self, psnr_fraction: float) -> EncodingCost | None:
        """What a clip has cost since it was decoded; None if there was none."""
        self._flush()
        if not self._rates:
            return None
        place = 2 if self._use_gpu else 1
        num_clips = sum(rate[0] for rate in self._rates)
        core_s, wall_s = (sum(rate[i] for rate in self._rates) / num_clips for i in (1, 2))
        psnr_core_s, psnr_wall_s = self._psnr_cost() if psnr_fraction else (0.0, 0.0)
        full = [rate[place] / rate[0] for rate in self._rates if rate[0] == self._batch_size]
        error = statistics.stdev(full) / len(full) ** 0.5 if len(full) > 1 else 0.0
        return EncodingCost(
            core_s=core_s + psnr_fraction * psnr_core_s,
            gpu_s=wall_s + psnr_fraction * psnr_wall_s if self._use_gpu else 0.0,
            other_core_s=self._transport_cost(),
            relative_error=error / (wall_s if self._use_gpu else core_s),
        )

    def _encode(self, clip: Clip) -> None:
        self._waiting.append(clip)
        if len(self._waiting) == self._batch_size:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        core_s, wall_s = time.process_time(), time.perf_counter()
        self.encoded += self._encoder.process(self._waiting)
        core_s, wall_s = time.process_time() - core_s, time.perf_counter() - wall_s
        self._encode_core_s += core_s
        self._rates.append((len(self._waiting), core_s, wall_s))
        self._last, self._waiting = self._waiting, []

    def _psnr_cost(self) -> tuple[float, float]:
        clips = self._last[:_NUM_PSNR_CLIPS]
        tokens = [_as_tokens(clip) for clip in self._encoder.process(clips)]
        self._encoder.psnr_db(tokens[0], clips[0])
        core_s, wall_s = time.process_time(), time.perf_counter()
        for clip, ids in zip(clips, tokens, strict=True):
            self._encoder.psnr_db(ids, clip)
        spent = time.process_time() - core_s, time.perf_counter() - wall_s
        return spent[0] / len(clips), spent[1] / len(clips)

    def _transport_cost(self) -> float:
        tokens = self.encoded[-len(self._last) :]
        began_s = time.process_time()
        for records in (self._last, tokens):
            list(table_to_records(records_to_table(records)))
        return (time.process_time() - began_s) / len(self._last)

    def _decoded_core_s(self) -> float:
        """Core seconds of this process and its children, what was spent on encoding left out."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        running = [_cpu_s(child) for child in psutil.Process().children(recursive=True)]
        children_s = ended.ru_utime + ended.ru_stime + sum(running)
        return time.process_time() + children_s - self._encode_core_s


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _whole_cost(spent_s: float, first_s: float, num_clips: int, num_parts: int) -> float:
    """What the whole of a video costs whose part did; finding the frames is done once."""
    if num_parts == 1 or num_clips < _LEAST_CLIPS:
        return spent_s * num_parts
    per_clip_s = (spent_s - first_s) / (num_clips - _CLIPS_AHEAD)
    finding_s = max(0.0, spent_s - num_clips * per_clip_s)
    return finding_s + num_parts * (spent_s - finding_s)


def _duration_s(windows: Sequence[ClipWindow], source: VideoInfo | None) -> float:
    if source is None:
        return 0.0
    return source.duration_s or max(window.end_s for window in windows)


def _as_tokens(clip: TokenizedClip) -> Tokens:
    import torch

    ids = (clip.spatial_tokens, clip.temporal_tokens)
    return Tokens(*(torch.from_numpy(part.astype(np.int64))[None] for part in ids))
