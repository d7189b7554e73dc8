"""What the clocks of sleeping encoders say: their rate while all of them worked, their pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import PipelineError
from pipeline.throughput.clocks import WorkLog


@dataclass(frozen=True)
class ClusterFigures:
    """One size of the cluster.

    Attributes:
        num_gpus: Simulated GPUs, one encoder each.
        num_clips: Clips of the run.
        steady_s: Seconds from the last encoder's first clip to the first encoder's last one.
        steady_clips_per_s: Clips per second of all encoders in that time.
        encoder_busy: Share of that time in which the encoders worked, in [0, 1].
        idlest_encoder_busy: The same of the encoder that worked least.
        ramp_s: Seconds between the first clips of the first and of the last encoder.
        tail_s: Seconds between the last clips of the first and of the last encoder.
        whole_run_s: Seconds of the run, start-up of the encoders and last commit included.
        commit_busy_s: Seconds in which the committer worked.
    """

    num_gpus: int
    num_clips: int
    steady_s: float
    steady_clips_per_s: float
    encoder_busy: float
    idlest_encoder_busy: float
    ramp_s: float
    tail_s: float
    whole_run_s: float
    commit_busy_s: float


def cluster_figures(
    logs: Sequence[WorkLog], num_gpus: int, *, whole_run_s: float, commit_busy_s: float
) -> ClusterFigures:
    """Reduces the logs of all encoders of a run.

    Raises:
        PipelineError: An encoder never had work, or the first one was done before the last one
            began: the run was too short to tell of a steady state.
    """
    working = [log for log in logs if log.total_clips]
    if len(working) != num_gpus:
        raise PipelineError(
            f"{len(working)} of {num_gpus} encoders had work; raise duration_s, so that all of "
            "them start before the work is done"
        )
    firsts = [log.ended_s[0] - log.busy_s[0] for log in working]
    lasts = [log.ended_s[-1] for log in working]
    begin_s, end_s = max(firsts), min(lasts)
    if end_s <= begin_s:
        raise PipelineError(
            f"the first of {num_gpus} encoders was done {begin_s - end_s:.1f} s before the last "
            "one began; raise duration_s"
        )
    steady_s = end_s - begin_s
    busy = [log.busy_between(begin_s, end_s) / steady_s for log in working]
    return ClusterFigures(
        num_gpus=num_gpus,
        num_clips=sum(log.total_clips for log in working),
        steady_s=steady_s,
        steady_clips_per_s=sum(_clips_between(log, begin_s, end_s) for log in working) / steady_s,
        encoder_busy=sum(busy) / num_gpus,
        idlest_encoder_busy=min(busy),
        ramp_s=max(firsts) - min(firsts),
        tail_s=max(lasts) - min(lasts),
        whole_run_s=whole_run_s,
        commit_busy_s=commit_busy_s,
    )


def _clips_between(log: WorkLog, begin_s: float, end_s: float) -> float:
    """Clips of an encoder between two moments; of a batch that lies across one, its share."""
    total = 0.0
    for ended_s, busy_s, num_clips in zip(log.ended_s, log.busy_s, log.num_clips, strict=True):
        inside_s = min(ended_s, end_s) - max(ended_s - busy_s, begin_s)
        if num_clips and inside_s > 0:
            total += num_clips * inside_s / busy_s
    return total
