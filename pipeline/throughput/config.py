"""What one run of the benchmark measures."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pydantic

from pipeline.stage_settings import StageSettings
from sweettok.strict_config import StrictConfig

SideName: TypeAlias = Literal[
    "decode", "encode", "pipeline", "two_processes", "serial", "textbook", "textbook_squeezed"
]
Mode: TypeAlias = Literal["real", "null_encoder", "synthetic_frames"]

SIDES: tuple[SideName, ...] = (
    "decode",
    "encode",
    "pipeline",
    "two_processes",
    "serial",
    "textbook",
    "textbook_squeezed",
)
TEXTBOOKS: tuple[SideName, ...] = ("textbook", "textbook_squeezed")


class SyntheticConfig(StrictConfig):
    """The work of the mode "synthetic_frames".

    Attributes:
        num_units: Units without a file behind them.
        clips_per_unit: Clips of noise that each gives.
    """

    num_units: int = pydantic.Field(default=16, ge=1)
    clips_per_unit: int = pydantic.Field(default=32, ge=1)


class PipelineBenchmarkConfig(StageSettings):
    """One run of `jobs/bench_pipeline.py`, beside the settings of the run that it measures.

    Attributes:
        mode: "real"; "null_encoder" gives fixed ids without a model; "synthetic_frames" makes up
            frames without decoding.
        synthetic: How much is made up.
        sides: What is measured: "decode" and "encode" alone, the whole "pipeline", the best that
            "two_processes" make of the same stages, and the baselines "serial", "textbook" and
            "textbook_squeezed" (pipeline/throughput/baselines.py).
        num_rounds: How often; sides take turns, medians count.
        encode_clips: So many different clips are decoded beforehand for "encode" at most.
        scratch: Directory for the datasets that are written; each is removed when it is measured.
        output: JSON file with all figures.
        picture: PNG file with the chart.
    """

    mode: Mode = "real"
    synthetic: SyntheticConfig = SyntheticConfig()
    sides: tuple[SideName, ...] = pydantic.Field(default=SIDES, min_length=1)
    num_rounds: int = pydantic.Field(default=3, ge=1)
    encode_clips: int = pydantic.Field(default=256, ge=1)
    scratch: str = "runs/bench_pipeline/scratch"
    output: str = "runs/bench_pipeline/result.json"
    picture: str = pydantic.Field(default="runs/bench_pipeline/result.png", pattern=r"\.png$")

    @pydantic.model_validator(mode="after")
    def _check_sides(self) -> PipelineBenchmarkConfig:
        for needed in ("decode", "encode", "pipeline"):
            if needed not in self.sides:
                raise ValueError(f"sides: must hold {needed}, which the others are compared with")
        if len(set(self.sides)) < len(self.sides):
            raise ValueError("sides: names a side twice")
        return self
