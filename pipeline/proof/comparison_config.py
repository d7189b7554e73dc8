"""The settings of the comparison."""

from __future__ import annotations

from typing import Literal

import pydantic

from pipeline.motion_corpus.corpus import MotionCorpusConfig
from pipeline.proof.corpora import NaturalVideoConfig
from pipeline.proof.motion_network import MotionNetworkConfig
from pipeline.proof.rows import RowConfig
from pipeline.training.trainer_config import TrainerConfig
from sweettok import SweetTokConfig
from sweettok.losses.perceptual import PerceptualConfig
from sweettok.strict_config import StrictConfig


class CompareConfig(StrictConfig):
    """The settings of `jobs/compare_methods.py`; the same for all rows.

    Attributes:
        rows: What to compare, in the table's order: a variant's name, or name, variant and the
            model settings that differ.
        seeds: Each row is trained with each of them.
        lexicon: Name or directory of the words.
        model: Sizes of the decoupled tokenizer; the other variants are made to fit them.
        training: Phases, losses and optimiser; `training.seed` is replaced by the run's.
        num_steps: By corpus, steps of the last phase where they are not those of `training`: a
            corpus of many clips is learned for longer than one of a few.
        motion: The motion corpus; null leaves it out.
        natural: Natural video; null leaves it out.
        motion_network: The classifier of motions.
        perceptual: The perceptual distance to measure; without its weight file the column is empty.
        max_perceptual_clips: Clips of each held-out part that it is measured on.
        max_probe_clips: Labelled training clips that the probe is fitted to.
        parameter_tolerance: Largest difference of any row's parameters to the decoupled one's, as a
            share of them.
        output: Directory of corpora, runs and tables.
        num_processes: Runs at one time, one thread each; null takes one per core.
    """

    rows: tuple[RowConfig, ...] = pydantic.Field(min_length=1)
    seeds: tuple[int, ...] = pydantic.Field(default=(0, 1, 2), min_length=1)
    lexicon: str = "small"
    model: SweetTokConfig
    training: TrainerConfig
    num_steps: dict[Literal["motion", "natural"], pydantic.PositiveInt] = pydantic.Field(
        default_factory=dict
    )
    motion: MotionCorpusConfig | None = MotionCorpusConfig()
    natural: NaturalVideoConfig | None = NaturalVideoConfig()
    motion_network: MotionNetworkConfig = MotionNetworkConfig()
    perceptual: PerceptualConfig = PerceptualConfig()
    max_perceptual_clips: int = pydantic.Field(default=30, ge=1)
    max_probe_clips: int = pydantic.Field(default=600, ge=1)
    parameter_tolerance: float = pydantic.Field(default=0.05, ge=0)
    output: str = "runs/compare_methods"
    num_processes: int | None = pydantic.Field(default=None, ge=1)

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> CompareConfig:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"rows must have different names, got {', '.join(names)}")
        for row in self.rows:
            row.applied_to(self.model)
        if self.motion is None and self.natural is None:
            raise ValueError("motion and natural are both null: there is nothing to train on")
        return self

    def training_on(self, corpus: str) -> TrainerConfig:
        """The phases, the last one of the corpus's own length."""
        num_steps = next((steps for name, steps in self.num_steps.items() if name == corpus), None)
        if num_steps is None:
            return self.training
        phases = dict(self.training.phases)
        name, last = phases.popitem()
        phases[name] = last.model_copy(update={"num_steps": num_steps})
        return self.training.model_copy(update={"phases": phases})
