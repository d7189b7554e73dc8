"""What one run on a simulated cluster measures."""

from __future__ import annotations

import math

import pydantic

from pipeline.dataset import CommitConfig
from pipeline.engine import EngineConfig
from sweettok.strict_config import StrictConfig


class SimulatedNodeConfig(StrictConfig):
    """One node beside the head: a raylet on this machine that claims a GPU.

    Attributes:
        num_cpus: CPU cores that it claims; decode tasks take them.
        object_store_bytes: Its object store.
    """

    num_cpus: float = pydantic.Field(default=1, gt=0)
    object_store_bytes: int = pydantic.Field(default=80 * 2**20, ge=80 * 2**20)


class DriverRunsConfig(StrictConfig):
    """Runs with instant encoders that show what clips cost the driver.

    Attributes:
        num_units: Made-up videos of each run.
        clips_per_unit: Clips of each video, run by run.
    """

    num_units: int = pydantic.Field(default=32, ge=1)
    clips_per_unit: tuple[int, ...] = pydantic.Field(default=(1, 16, 256), min_length=1)


class ClusterBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_cluster.py`.

    Attributes:
        num_gpus: Sizes of the cluster, growing; one node, one GPU and one encoder each.
        clip_s: Seconds that an encoder takes for one clip.
        batch_size: Clips per batch.
        clips_per_unit: Clips of a made-up video.
        duration_s: For so long the encoders have work at every size, in seconds.
        goal: Share of linear scaling that is to be kept.
        node: What each node claims.
        driver: Runs on the largest cluster that look at the driver alone.
        engine, commit: The engine and the committer, as for `jobs/tokenize_corpus.py`.
        scratch: Directory of the datasets that are written; removed at the end.
        output: JSON file with all figures.
        picture: PNG file with the chart.
    """

    num_gpus: tuple[int, ...] = pydantic.Field(default=(1, 2, 4, 8, 16), min_length=2)
    clip_s: float = pydantic.Field(default=0.5, gt=0)
    batch_size: int = pydantic.Field(default=4, ge=1)
    clips_per_unit: int = pydantic.Field(default=8, ge=1)
    duration_s: float = pydantic.Field(default=60, gt=0)
    goal: float = pydantic.Field(default=0.95, gt=0, le=1)
    node: SimulatedNodeConfig = SimulatedNodeConfig()
    driver: DriverRunsConfig = DriverRunsConfig()
    engine: EngineConfig = EngineConfig()
    commit: CommitConfig = CommitConfig()
    scratch: str = "runs/benchmark_cluster/scratch"
    output: str = "runs/benchmark_cluster/cluster.json"
    picture: str = pydantic.Field(default="runs/benchmark_cluster/cluster.png", pattern=r"\.png$")

    @pydantic.field_validator("num_gpus")
    @classmethod
    def _check_sizes(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError("must be growing numbers of at least one GPU")
        return sizes

    def num_units(self, num_gpus: int) -> int:
        """Made-up videos that keep so many encoders busy for `duration_s`."""
        return math.ceil(num_gpus * self.duration_s / (self.clip_s * self.clips_per_unit))
