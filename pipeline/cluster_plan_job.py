"""Plans a cluster from measured costs: what `jobs/plan_cluster.py` and a run's warning share."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from pipeline.cluster import ClusterConfig, connect, connected_nodes
from pipeline.cluster_plan import MAX_IDLE_SHARE, ClusterPlan, NodeShape, plan_cluster
from pipeline.errors import PipelineError
from pipeline.stage_costs import read_costs
from pipeline.whole_files import replace_file
from pipeline.wording import counted
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class PlanClusterConfig(StrictConfig):
    """One run of `jobs/plan_cluster.py`.

    Attributes:
        costs: JSON files that `jobs/bench_pipeline.py` wrote on machines like those planned with;
            two where decoding and encoding were measured apart.
        nodes: The cluster; empty takes the nodes of the one at `cluster`, as they are now.
        cluster: Which Ray cluster to ask where `nodes` is empty.
        num_clips: Clips of the corpus, for how long it would take; null leaves that out.
        max_idle_share: Idle cores or GPUs beyond this share, in [0, 1], are worth a warning.
        output: JSON file with the plan.
    """

    costs: tuple[str, ...] = pydantic.Field(min_length=1)
    nodes: tuple[NodeShape, ...] = ()
    cluster: ClusterConfig = ClusterConfig()
    num_clips: int | None = pydantic.Field(default=None, ge=1)
    max_idle_share: float = pydantic.Field(default=MAX_IDLE_SHARE, ge=0, le=1)
    output: str = "runs/plan_cluster/plan.json"


@dataclass(frozen=True)
class PlanReport:
    """A plan, and what was asked about it."""

    plan: ClusterPlan
    config: PlanClusterConfig

    def text(self) -> str:
        """Everything, for people."""
        lines = [*self._costs(), *self._cluster(), *self._settings()]
        warning = self.plan.warning(self.config.max_idle_share)
        return "\n".join([*lines, *([f"warning: {warning}"] if warning else [])])

    def to_json_values(self) -> dict[str, Any]:
        """Plain values; what is not a finite number is null."""
        plan = self.plan
        numbers = {
            "cores_per_gpu": plan.costs.cores_per_gpu,
            "num_cpus": plan.num_cpus,
            "num_gpus": plan.num_gpus,
            "core_clips_per_s": plan.core_clips_per_s,
            "gpu_clips_per_s": plan.gpu_clips_per_s,
            "clips_per_s": plan.clips_per_s,
            "idle_gpu_share": plan.idle_gpu_share,
            "idle_core_share": plan.idle_core_share,
            "missing_cores": plan.missing_cores,
        }
        return {
            "config": self.config.to_mapping(),
            "costs": dataclasses.asdict(plan.costs),
            "nodes": [shape.to_mapping() for shape in plan.nodes],
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "limited_by": "decoding" if plan.is_decode_bound else "encoding",
            "settings": plan.settings(),
            "warning": plan.warning(self.config.max_idle_share),
        }

    def _costs(self) -> list[str]:
        costs = self.plan.costs
        lines = [
            f"a clip costs {1e3 * costs.decode_core_s:.2f} ms of a core to decode, "
            f"{1e3 * costs.encode_core_s:.2f} ms to encode and {1e3 * costs.other_core_s:.2f} ms "
            "for the rest"
        ]
        if costs.encode_gpu_s:
            lines.append(
                f"a GPU encodes {1 / costs.encode_gpu_s:,.1f} clips/s: {costs.cores_per_gpu:,.1f} "
                "cores keep it busy"
            )
        elif self.plan.num_gpus:
            lines.append("encoding was measured on a CPU: the GPUs are left out of the plan")
        return lines

    def _cluster(self) -> list[str]:
        plan = self.plan
        lines = [
            f"{_described(plan.nodes)}: {plan.clips_per_s:,.1f} clips/s, limited by "
            f"{'decoding' if plan.is_decode_bound else 'encoding'}"
        ]
        if plan.costs.encode_gpu_s:
            busy = (1 - plan.idle_gpu_share, 1 - plan.idle_core_share)
            lines.append("GPUs busy {:.0%}, cores busy {:.0%}".format(*busy))
            lines += self._missing()
        if self.config.num_clips:
            hours = self.config.num_clips / plan.clips_per_s / 3600
            lines.append(f"{self.config.num_clips:,} clips take {hours:,.1f} hours")
        return lines

    def _missing(self) -> list[str]:
        missing = self.plan.missing_cores
        if missing <= 0:
            return []
        without_gpus = [shape for shape in self.plan.nodes if not shape.num_gpus]
        size = (without_gpus or self.plan.nodes)[0].num_cpus
        gb_per_s = self.plan.gpu_clips_per_s * self.plan.costs.clip_bytes / 1e9
        return [
            f"{counted(math.ceil(missing / size), 'more node')} of {size:g} cores without a GPU "
            f"would keep all GPUs busy, sending them up to {gb_per_s:.1f} GB/s of pixels"
        ]

    def _settings(self) -> list[str]:
        settings = self.plan.settings().items()
        values = " ".join(f"--set {key}={json.dumps(value)}" for key, value in settings)
        return [f"settings: {values}"]


def plan_report(config: PlanClusterConfig) -> PlanReport:
    """Reads the costs, plans, and writes the JSON file.

    Raises:
        PipelineError: The costs cannot be read or do not fit the nodes, or no cluster answers.
    """
    costs = read_costs(config.costs)
    nodes = config.nodes
    if not nodes:
        connect(config.cluster)
        nodes = connected_nodes()
    report = PlanReport(plan_cluster(costs, nodes), config)
    text = json.dumps(report.to_json_values(), indent=2) + "\n"
    replace_file(Path(config.output), text.encode())
    return report


def warn_if_lopsided(cost_files: Sequence[str]) -> None:
    """Logs one line if the connected cluster is lopsided for costs measured before.

    Also if they do not fit it, being those of a GPU that no node has: the cluster may still grow.

    Raises:
        PipelineError: The costs cannot be read.
    """
    if not cost_files:
        return
    costs = read_costs(cost_files)
    try:
        warning = plan_cluster(costs, connected_nodes()).warning()
    except PipelineError as error:
        warning = str(error)
    if warning:
        logger.warning(warning)


def _described(nodes: Sequence[NodeShape]) -> str:
    return " + ".join(
        f"{counted(shape.num_nodes, 'node')} of {shape.num_cpus:g} cores"
        + (f" and {counted(round(shape.num_gpus), 'GPU')}" if shape.num_gpus else "")
        for shape in nodes
    )
