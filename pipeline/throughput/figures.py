"""From the runs of the sides to figures: processor seconds per clip, rates, shares, the verdict.

Steady state begins when everything that works is there (models loaded, first clip decoded) and ends
with the last tokens. Start-up, before it, and finishing, the last commit, are told apart.

Processor time is counted per process from the moment when that process had begun its work, because
encoders still load while the first clips are decoded. Ray's own services (raylet, GCS, dashboard
and their agents), which run whether or not there is work, are told apart as well.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.throughput.clocks import most_at_one_time
from pipeline.throughput.config import TEXTBOOKS, SideName
from pipeline.throughput.process_tree import SERVICES, ProcessRecord
from pipeline.throughput.sides import SideRun

BUSY_SHARE = 0.8
"""A stage that works less of the time than this is not what limits a run."""

LEAST_STEADY_SHARE = 0.5
"""A run that did less than this share of its work in steady state was too short for a verdict."""


@dataclass(frozen=True)
class SideFigures:
    """What one run of one side cost.

    Attributes:
        side: Which.
        num_clips: Clips that it gave.
        num_quarantined: Videos that gave none.
        steady_share: Share of the work that was done in steady state, in [0, 1].
        clips_per_s: Clips per second in steady state.
        cpu_s_per_clip: Processor seconds per clip in steady state, Ray's services left out.
        cpu_s_per_clip_by_kind: The same by kind of process.
        services_cpu_s_per_clip: What Ray's services used meanwhile, per clip.
        startup_s, steady_s, finish_s: Seconds of each part of the run.
        startup_cpu_s: Processor seconds of everything that came before steady state.
        total_cpu_s: Processor seconds of the whole run, start-up and services included.
        decode_busy, encode_busy, commit_busy: Shares of the steady state in which the stage's
            processes worked, in [0, 1]; they waited in the rest. NaN where there is none.
        takes_turns: Whether the same processes decoded and encoded: the shares are parts of one.
        cores_busy: Share of the machine's cores that the side used in steady state.
        num_gpus: GPUs that encoded; 0 if CPUs did.
        num_processes: Processes of one stage that ran side by side, where that was all.
        gpu_busy: Share of the steady state in which each of them computed batches, by its own
            clock; more than 1 where encoders that share a GPU waited for each other in it.
        gpu_utilisation: Share in which any kernel ran on the machine's GPUs, as the driver sees it.
        gpu_peak_bytes: Most memory in use on one GPU.
        device: What encoded, in words; "" where nobody looked.
        flops_per_clip, matrix_flops_per_s: See `ModelRate`; 0 where nobody measured.
        peak_pss_bytes, peak_private_bytes: Largest memory of all processes together.
        peak_bytes_by_kind: The memory of each kind at that moment.
        process_peak_bytes: The largest process of each kind.
        object_store_bytes, spilled_bytes: Peak of Ray's object store; what was spilled.
        note: What a reader must know.
    """

    side: SideName
    num_clips: int
    num_quarantined: int
    steady_share: float
    clips_per_s: float
    cpu_s_per_clip: float
    cpu_s_per_clip_by_kind: dict[str, float]
    services_cpu_s_per_clip: float
    startup_s: float
    steady_s: float
    finish_s: float
    startup_cpu_s: float
    total_cpu_s: float
    decode_busy: float = math.nan
    encode_busy: float = math.nan
    commit_busy: float = math.nan
    takes_turns: bool = False
    cores_busy: float = math.nan
    num_gpus: float = 0.0
    num_processes: int = 1
    gpu_busy: float = math.nan
    gpu_utilisation: float = math.nan
    gpu_peak_bytes: int = 0
    device: str = ""
    flops_per_clip: float = 0.0
    matrix_flops_per_s: float = 0.0
    peak_pss_bytes: int = 0
    peak_private_bytes: int = 0
    peak_bytes_by_kind: dict[str, int] = field(default_factory=dict)
    process_peak_bytes: dict[str, int] = field(default_factory=dict)
    object_store_bytes: int = 0
    spilled_bytes: int = 0
    note: str = ""

    @property
    def verdict(self) -> str:
        """What limits the side: its busiest stage, or, if none is busy, what lies between them."""
        if self.steady_share < LEAST_STEADY_SHARE:
            return "too short to tell"
        shares = {
            "decode-bound": self.decode_busy,
            # A call of a GPU's encoder lasts while it waits in line: the GPU's clock knows better.
            "encode-bound": self.gpu_busy if self.num_gpus else self.encode_busy,
            "commit-bound": self.commit_busy,
        }
        known = {name: share for name, share in shares.items() if not math.isnan(share)}
        if not known:
            return "overhead-bound"
        busiest = max(known, key=known.__getitem__)
        busy = known[busiest]
        if self.takes_turns and busiest != "commit-bound":
            busy = self.decode_busy + self.encode_busy
        return busiest if busy >= BUSY_SHARE else "overhead-bound"


def side_figures(run: SideRun) -> SideFigures:
    """The figures of one run."""
    steady = _Steady(run)
    outcome, tree = run.outcome, run.tree
    first_s, last_s, duration_s = steady.first_s, steady.last_s, steady.duration_s
    costs = steady.cpu_s_per_clip_by_kind()
    services_s = tree.cpu_by_kind(first_s, last_s).get(SERVICES, 0.0)
    used_s = sum(tree.cpu_by_kind(first_s, last_s).values())
    return SideFigures(
        side=run.side,
        num_clips=outcome.num_clips,
        num_quarantined=outcome.num_quarantined,
        steady_share=steady.num_clips / max(outcome.num_clips, 1),
        clips_per_s=steady.num_clips / duration_s,
        cpu_s_per_clip=sum(costs.values()),
        cpu_s_per_clip_by_kind=costs,
        services_cpu_s_per_clip=services_s / max(steady.num_clips, 1),
        startup_s=first_s - run.started_s,
        steady_s=duration_s,
        finish_s=outcome.ended_s - last_s,
        startup_cpu_s=sum(tree.cpu_by_kind(run.started_s, first_s).values()),
        total_cpu_s=sum(tree.cpu_by_kind(run.started_s, outcome.ended_s).values()),
        decode_busy=steady.busy_share("decode"),
        encode_busy=steady.busy_share("encode"),
        commit_busy=(
            min(1.0, outcome.commit_busy_s / duration_s) if outcome.commit_busy_s else math.nan
        ),
        takes_turns=steady.takes_turns,
        cores_busy=used_s / duration_s / (os.cpu_count() or 1),
        num_gpus=outcome.num_gpus,
        num_processes=outcome.num_processes,
        gpu_busy=steady.gpu_busy_share(),
        gpu_utilisation=run.gpus.busy_between(first_s, last_s),
        gpu_peak_bytes=run.gpus.peak_bytes,
        device=outcome.device,
        flops_per_clip=outcome.flops_per_clip,
        matrix_flops_per_s=outcome.matrix_flops_per_s,
        peak_pss_bytes=tree.peak_pss_bytes,
        peak_private_bytes=tree.peak_private_bytes,
        peak_bytes_by_kind=tree.peak_kinds_bytes,
        process_peak_bytes=_largest(tree.processes),
        object_store_bytes=outcome.object_store_bytes,
        spilled_bytes=outcome.spilled_bytes,
        note=outcome.note,
    )


class _Steady:
    """The steady state of one run."""

    def __init__(self, run: SideRun) -> None:
        self._run = run
        self._decode = [log for log in run.logs if log.stage == "decode" and log.total_clips]
        self._encode = [log for log in run.logs if log.stage == "encode" and log.total_clips]
        self._is_on_ray = run.side in ("pipeline", *TEXTBOOKS)
        encoding = {log.pid for log in self._encode}
        self.takes_turns = bool(encoding) and encoding <= {log.pid for log in self._decode}
        encoders_ready_s = [log.ready_s for log in self._encode]
        self.first_s = max([run.outcome.ready_s, *encoders_ready_s])
        self.last_s = run.outcome.last_s
        if run.side in TEXTBOOKS and self._encode:  # only its encoder knows
            self.last_s = max(log.ended_s[-1] for log in self._encode)
        self.duration_s = max(self.last_s - self.first_s, 1e-9)

    @property
    def num_clips(self) -> float:
        """Clips of work that was done in it.

        A clip that was decoded before all encoders were there counts for the part of the work that
        was left to do.
        """
        num_clips = self._run.outcome.num_clips
        if self._run.side != "pipeline":
            return num_clips
        decoded = sum(log.clips_before(self.first_s) for log in self._decode)
        encoded = sum(log.clips_before(self.first_s) for log in self._encode)
        share = self._decode_share()
        return num_clips - share * decoded - (1 - share) * encoded

    def _decode_share(self) -> float:
        """The part of a clip's cost that is decoding, in [0, 1]."""
        if self.takes_turns:  # processor time cannot be told apart within a process, turns can
            decode_s, encode_s = self.busy_share("decode"), self.busy_share("encode")
        else:
            decode_s, encode_s = self._decode_cost_s(), self._encode_cost_s()
        return decode_s / (decode_s + encode_s) if decode_s + encode_s else 0.0

    def busy_share(self, stage: str) -> float:
        """How much of the time the processes of a stage worked; NaN if nobody noted it.

        Processes that followed each other count as one: Ray starts workers anew.
        """
        logs = self._decode if stage == "decode" else self._encode
        if not logs:
            return math.nan
        busy_s = sum(log.busy_between(self.first_s, self.last_s) for log in logs)
        return busy_s / self.duration_s / most_at_one_time(logs)

    def gpu_busy_share(self) -> float:
        """How much of the time the GPUs of the encoders computed; NaN if there are none."""
        num_gpus = self._run.outcome.num_gpus
        if not num_gpus:
            return math.nan
        logs = self._encode
        busy_s = sum(log.device_busy_between(self.first_s, self.last_s) for log in logs)
        return busy_s / self.duration_s / num_gpus

    def cpu_s_per_clip_by_kind(self) -> dict[str, float]:
        """Processor seconds per clip, by kind of process."""
        num_clips = max(self._run.outcome.num_clips, 1)
        if not self._is_on_ray:
            spent = self._run.tree.cpu_by_kind(self.first_s, self.last_s)
            return {kind: s / num_clips for kind, s in spent.items() if s}
        costs: dict[str, float] = {}
        accounted: set[int] = set()
        if self._decode:
            families = [self._run.tree.family(log.pid) for log in self._decode]
            accounted |= {record.pid for family in families for record in family}
            kind = "decoding and encoding" if self.takes_turns else "decode tasks"
            costs[kind] = self._decode_cost_s()
        if self._encode and not self.takes_turns:
            accounted |= {log.pid for log in self._encode}
            costs["encoders"] = self._encode_cost_s()
        for record in self._run.tree.processes:
            if record.pid in accounted or record.kind == SERVICES:
                continue
            # Ray's and our own processes beside the stages: imports and set-up are start-up.
            spent_s = record.cpu_between(self.first_s, self.last_s)
            costs[record.kind] = costs.get(record.kind, 0.0) + spent_s / max(self.num_clips, 1)
        return costs

    def _decode_cost_s(self) -> float:
        """Of decode tasks and their children, from each one's first clip on."""
        spent_s, num_clips = 0.0, 0
        for log in self._decode:
            first = next(i for i, count in enumerate(log.num_clips) if count)
            for record in self._run.tree.family(log.pid):
                spent_s += record.cpu_between(log.ended_s[first], self.last_s)
            num_clips += log.total_clips - log.num_clips[first]
        return spent_s / max(num_clips, 1)

    def _encode_cost_s(self) -> float:
        """Of encoders, from when each had loaded its model."""
        by_pid = {record.pid: record for record in self._run.tree.processes}
        spent_s = sum(
            by_pid[log.pid].cpu_between(log.ready_s, self.last_s)
            for log in self._encode
            if log.pid in by_pid
        )
        return spent_s / max(sum(log.total_clips for log in self._encode), 1)


def _largest(processes: Iterable[ProcessRecord]) -> dict[str, int]:
    found: dict[str, int] = {}
    for record in processes:
        found[record.kind] = max(found.get(record.kind, 0), record.peak_pss_bytes)
    return found
