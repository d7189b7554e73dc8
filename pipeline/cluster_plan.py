"""What a cluster of given nodes would do with measured costs, and which side of it would idle.

Decode tasks run on any core of the cluster, encoders on its GPUs or, without any, on its cores. So
throughput is what the scarcer of the two kinds allows; the rest of the other kind stays idle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pydantic

from pipeline.errors import PipelineError
from pipeline.stage_costs import StageCosts
from pipeline.wording import counted
from sweettok.strict_config import StrictConfig

MAX_IDLE_SHARE = 0.25
"""A cluster is lopsided where more than this share of its cores or of its GPUs would idle."""


class NodeShape(StrictConfig):
    """Nodes of one kind.

    Attributes:
        num_cpus: CPU cores of each.
        num_gpus: GPUs of each.
        num_nodes: How many.
    """

    num_cpus: float = pydantic.Field(gt=0)
    num_gpus: float = pydantic.Field(default=0, ge=0)
    num_nodes: int = pydantic.Field(default=1, ge=1)


@dataclass(frozen=True)
class ClusterPlan:
    """What a cluster would do.

    Attributes:
        costs: Of one clip.
        nodes: The cluster.
    """

    costs: StageCosts
    nodes: tuple[NodeShape, ...]

    @property
    def num_cpus(self) -> float:
        """CPU cores of all nodes."""
        return sum(shape.num_nodes * shape.num_cpus for shape in self.nodes)

    @property
    def num_gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(shape.num_nodes * shape.num_gpus for shape in self.nodes)

    @property
    def core_clips_per_s(self) -> float:
        """Clips per second that all cores can take through the pipeline."""
        return self.num_cpus / self.costs.core_s

    @property
    def gpu_clips_per_s(self) -> float:
        """Clips per second that all GPUs can encode; infinite if encoders compute on CPUs."""
        if not self.costs.encode_gpu_s:
            return math.inf
        return self.num_gpus / self.costs.encode_gpu_s

    @property
    def clips_per_s(self) -> float:
        """Clips per second of the whole cluster."""
        return min(self.core_clips_per_s, self.gpu_clips_per_s)

    @property
    def is_decode_bound(self) -> bool:
        """Whether cores, not GPUs, are what is scarce."""
        return self.core_clips_per_s <= self.gpu_clips_per_s

    @property
    def idle_gpu_share(self) -> float:
        """Share of the GPUs' time in which they would wait for frames, in [0, 1]."""
        return 1.0 - self.clips_per_s / self.gpu_clips_per_s if self.costs.encode_gpu_s else 0.0

    @property
    def idle_core_share(self) -> float:
        """Share of the cores' time in which they would wait for GPUs, in [0, 1]."""
        return 1.0 - self.clips_per_s / self.core_clips_per_s

    @property
    def missing_cores(self) -> float:
        """Cores that the GPUs lack to be always busy."""
        return max(0.0, self.num_gpus * self.costs.cores_per_gpu - self.num_cpus)

    def warning(self, max_idle_share: float = MAX_IDLE_SHARE) -> str | None:
        """One line if the cluster is lopsided; None if it is not."""
        if self.idle_gpu_share > max_idle_share:
            return (
                f"the cluster is lopsided: its {_cores(self.num_cpus)} feed only "
                f"{1 - self.idle_gpu_share:.0%} of its {_gpus(self.num_gpus)}; a GPU needs "
                f"{self.costs.cores_per_gpu:.0f} cores, so {math.ceil(self.missing_cores):,} more "
                "cores would keep all of them busy"
            )
        if self.idle_core_share > max_idle_share:
            return (
                f"the cluster is lopsided: its {_gpus(self.num_gpus)} use only "
                f"{1 - self.idle_core_share:.0%} of its {_cores(self.num_cpus)}; a GPU needs "
                f"{self.costs.cores_per_gpu:.0f} cores, so fewer cores or more GPUs would do"
            )
        return None

    def settings(self) -> dict[str, float]:
        """Settings of `jobs/tokenize_corpus.py` that fit, by their dotted path."""
        if self.costs.encode_gpu_s:
            num_actors = max(1, math.floor(self.num_gpus))
            busy_cores = self.clips_per_s * self.costs.encode_core_s / num_actors
            return {
                "encode.num_actors": num_actors,
                "encode.num_gpus_per_actor": 1,
                "encode.num_cpus_per_actor": max(0.1, math.ceil(busy_cores * 10) / 10),
            }
        return {"encode.in_decode_tasks": True}


def plan_cluster(costs: StageCosts, nodes: Sequence[NodeShape]) -> ClusterPlan:
    """What a cluster of `nodes` would do.

    Raises:
        PipelineError: It has no node, or no GPU where the costs are those of one.
    """
    if not nodes:
        raise PipelineError("there is no node to plan with; name at least one in nodes")
    plan = ClusterPlan(costs, tuple(nodes))
    if costs.encode_gpu_s and not plan.num_gpus:
        raise PipelineError(
            "encoding was measured on a GPU, but no node has one; add nodes with num_gpus, or "
            "measure with encode.num_gpus_per_actor=0"
        )
    return plan


def _cores(number: float) -> str:
    return counted(round(number), "core")


def _gpus(number: float) -> str:
    return counted(round(number), "GPU")
