"""What one run of `jobs/benchmark_scaling.py` measures."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pydantic

from sweettok.strict_config import StrictConfig

StepName: TypeAlias = Literal[
    "listing", "first_plan", "diff", "index", "commit_all", "commit_first", "commit_more"
]

STEPS: dict[StepName, str] = {
    "listing": "a manifest read to its end",
    "first_plan": "a manifest planned for an empty dataset: every video is work",
    "diff": "a manifest planned for a dataset that lacks every thousandth video",
    "index": "all that planning holds of a dataset's videos, made from ids without a dataset",
    "commit_all": "a clip of every video committed to an empty dataset, by one committer",
    "commit_first": "as many videos as the smallest size has, committed to a dataset of that size "
    "by a committer that reads all its keys first",
    "commit_more": "the same again, by the same committer",
}


class ScalingBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_scaling.py`.

    Attributes:
        num_units: Sizes of the corpus in videos, growing.
        index_num_units: Sizes of the step "index", growing: without files it can go further.
        clips_per_unit: Clip rows that the dataset has of each video; `commit_all` writes one.
        fixed_units: Size of the corpora that differ in their clips.
        clips_of_fixed_units: Clips per video of those corpora, growing.
        units_per_commit: Videos between two commits of `commit_all`.
        predicted_num_units: Size that the curves are extended to.
        directory: Where manifests and datasets are made; what is there is used again.
        output: JSON file with all numbers.
        picture: PNG file with the curves.
    """

    num_units: tuple[int, ...] = pydantic.Field(
        default=(1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000), min_length=4
    )
    index_num_units: tuple[int, ...] = pydantic.Field(
        default=(1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000), min_length=4
    )
    clips_per_unit: int = pydantic.Field(default=4, ge=1)
    fixed_units: int = pydantic.Field(default=10_000, ge=1)
    clips_of_fixed_units: tuple[int, ...] = pydantic.Field(default=(1, 10, 100), min_length=2)
    units_per_commit: int = pydantic.Field(default=50_000, ge=1)
    predicted_num_units: int = pydantic.Field(default=100_000_000, ge=1)
    directory: str = "runs/benchmark_scaling"
    output: str = "runs/benchmark_scaling/scaling.json"
    picture: str = pydantic.Field(default="runs/benchmark_scaling/scaling.png", pattern=r"\.png$")

    @pydantic.field_validator("num_units", "index_num_units", "clips_of_fixed_units")
    @classmethod
    def _check_growing(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes) < 1 or list(sizes) != sorted(set(sizes)):
            raise ValueError("must be growing numbers of at least one")
        return sizes
