"""How long a cluster takes for what a sample has cost.

Three things can be what a run waits for: the decode tasks that fit beside the encoders, the
encoders, and the cores that both share with the engine.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.cluster import LEAST_CPUS, ClusterConfig
from pipeline.cluster_plan import NodeShape
from pipeline.decoding.interface import DecodeConfig
from pipeline.encode_config import EncodeConfig
from pipeline.engine import EngineConfig
from pipeline.errors import PipelineError
from pipeline.estimation.measuring import EncodingCost
from pipeline.estimation.sampling import Estimated

ENGINE_CORES = 0.4
"""Cores that Ray, its coordination of the stages and the committer are busy with (LOG.md)."""

ENGINE_CORES_TOGETHER = 0.15
"""The same where the processes that decode encode as well, and no pixels go between processes."""


@dataclass(frozen=True)
class Cluster:
    """What a run can use.

    Attributes:
        num_slots: CPUs that Ray gives out.
        num_cores: Cores that are really there.
        num_gpus: GPUs.
        description: For people.
    """

    num_slots: float
    num_cores: float
    num_gpus: float
    description: str

    @classmethod
    def of_nodes(cls, nodes: Sequence[NodeShape]) -> Cluster:
        """The cluster of `nodes`."""
        num_nodes = sum(shape.num_nodes for shape in nodes)
        num_cores = sum(shape.num_nodes * shape.num_cpus for shape in nodes)
        num_gpus = sum(shape.num_nodes * shape.num_gpus for shape in nodes)
        text = f"{num_nodes} node(s) with {num_cores:g} cores and {num_gpus:g} GPUs in all"
        return cls(num_cores, num_cores, num_gpus, text)

    @classmethod
    def of_this_machine(cls, config: ClusterConfig, num_gpus: int) -> Cluster:
        """The embedded cluster that `config` would start here."""
        num_cores = os.cpu_count() or 1
        num_slots = config.num_cpus or max(LEAST_CPUS, num_cores)
        text = f"this machine ({num_cores} cores, {num_gpus} GPUs)"
        return cls(num_slots, num_cores, num_gpus, f"{text}; estimate.nodes names another cluster")


@dataclass(frozen=True)
class Stages:
    """The settings that decide how many of each stage work at one time.

    Attributes:
        decode, encode, engine: The run's.
        num_units: Videos, or parts of them, that are decoded independently.
    """

    decode: DecodeConfig
    encode: EncodeConfig
    engine: EngineConfig
    num_units: int

    def decoding_cores(self, cluster: Cluster) -> float:
        """Cores that decode at one time.

        Raises:
            PipelineError: The encoders leave room for none, or there is none at all.
        """
        return min(self.num_decode_tasks(cluster), self.num_units) * self.decode.num_threads

    def num_decode_tasks(self, cluster: Cluster) -> int:
        """Decode tasks that the cluster has room for at one time, however few videos there are.

        Raises:
            PipelineError: The encoders leave room for none, or there is none at all.
        """
        per_task = self.engine.num_cpus_per_decode_task
        share = self.encode.num_gpus(has_gpu=cluster.num_gpus > 0)
        left = cluster.num_slots - self.encode.num_own_cpus(share)
        num_tasks = math.floor(left / per_task + 1e-9)
        if num_tasks < 1 and self.is_together(cluster):
            raise PipelineError(
                f"a decode task takes {per_task:g} CPUs, and there are {cluster.num_slots:g}; "
                "lower engine.num_cpus_per_decode_task (fractions are fine)"
            )
        if num_tasks < 1:
            raise PipelineError(
                f"{self.encode.num_actors} encoders of {self.encode.num_cpus_per_actor:g} CPUs "
                f"leave {max(left, 0):g} of {cluster.num_slots:g} for decoding, and a decode task "
                f"takes {per_task:g}; lower encode.num_actors or encode.num_cpus_per_actor "
                "(fractions are fine)"
            )
        return min(num_tasks, self.engine.num_decode_tasks or num_tasks)

    def is_together(self, cluster: Cluster) -> bool:
        """Whether the processes that decode encode as well."""
        share = self.encode.num_gpus(has_gpu=cluster.num_gpus > 0)
        return self.encode.is_beside_decoding(share)

    def encoding_cores(self) -> float:
        """Cores that compute at one time in encoders without a GPU."""
        return self.encode.num_actors * max(1, int(self.encode.num_cpus_per_actor))

    def encoding_gpus(self, cluster: Cluster) -> float:
        """GPUs that encode at one time; 0 if encoders compute on CPUs."""
        share = self.encode.num_gpus(has_gpu=cluster.num_gpus > 0)
        return min(cluster.num_gpus, self.encode.num_actors * share)


@dataclass(frozen=True)
class Duration:
    """How long a run takes.

    Attributes:
        start_up_s: Seconds until the stages are at work.
        work: Seconds from then on.
        limited_by: What the work waits for.
        gpus: GPUs that the encoders hold meanwhile.
    """

    start_up_s: float
    work: Estimated
    limited_by: str
    gpus: float

    @property
    def seconds(self) -> Estimated:
        """The whole run."""
        return self.work.plus(self.start_up_s)


def predict(
    decode_core_s: Estimated,
    num_clips: Estimated,
    encoding: EncodingCost,
    stages: Stages,
    cluster: Cluster,
    start_up_s: float,
) -> Duration:
    """How long it takes.

    Args:
        decode_core_s: Core seconds of decoding everything.
        num_clips: All clips.
        encoding: What each costs after that.
        stages: The settings.
        cluster: Where.
        start_up_s: Seconds until the stages are at work.

    Raises:
        PipelineError: The settings do not fit the cluster.
    """
    gpus = stages.encoding_gpus(cluster)
    per_clip_s = encoding.core_s + encoding.other_core_s
    after = num_clips.times(per_clip_s, encoding.relative_error)
    error = math.hypot(decode_core_s.standard_error, after.standard_error)
    core_s = Estimated(decode_core_s.value + after.value, error, _degrees(decode_core_s, after))
    is_together = stages.is_together(cluster)
    engine = ENGINE_CORES_TOGETHER if is_together else ENGINE_CORES
    free_cores = max(cluster.num_cores - engine, 0.5 * cluster.num_cores)
    bounds = {"the cores": core_s.times(1 / free_cores)}
    if is_together:
        bounds["decoding and encoding"] = core_s.times(1 / stages.decoding_cores(cluster))
    else:
        per_clip_s = encoding.gpu_s / gpus if gpus else encoding.core_s / stages.encoding_cores()
        bounds["decoding"] = decode_core_s.times(1 / stages.decoding_cores(cluster))
        bounds["encoding"] = num_clips.times(per_clip_s, encoding.relative_error)
    limit = max(bounds, key=lambda name: bounds[name].value)
    return Duration(start_up_s, bounds[limit], limit, gpus)


def _degrees(*parts: Estimated) -> int:
    return min((part.degrees for part in parts if part.degrees), default=0)
