"""What a run is: everything that decides its weights, and everything that decides its measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.proof.corpora import PreparedCorpus
from pipeline.proof.evaluation import Instruments
from pipeline.proof.motion_network import load_motion_network
from pipeline.proof.rows import RowConfig
from pipeline.proof.run_files import read_result
from pipeline.records import stable_id
from pipeline.training.trainer_config import TrainerConfig
from sweettok import Lexicon, SweetTokConfig
from sweettok.losses.perceptual import PerceptualConfig, create_perceptual_distance

# A change of the code that gives other weights, or other measures, from the same settings counts
# its number up: old weights are trained again, old measures only measured again.
TRAINING_FORMAT, MEASURING_FORMAT = 2, 2


@dataclass(frozen=True)
class MeasuringSpec:
    """How runs and anchors are measured.

    Attributes:
        motion_network: File of the trained motion network; None for clips without labels.
        perceptual: The perceptual distance.
        max_perceptual_clips: On how many clips of each part.
        max_probe_clips: To how many labelled training clips probes are fitted.
        usage_ids_per_code: How many ids of one clip there are for each code that is counted.
    """

    motion_network: str | None
    perceptual: PerceptualConfig
    max_perceptual_clips: int
    max_probe_clips: int
    usage_ids_per_code: float

    def instruments(self) -> Instruments:
        """The instruments, loaded."""
        network = load_motion_network(Path(self.motion_network)) if self.motion_network else None
        return Instruments(
            network, create_perceptual_distance(self.perceptual), self.max_perceptual_clips
        )

    def recipe(self, corpus: PreparedCorpus) -> str:
        """Hash of everything that decides measures besides what is measured."""
        return stable_id(
            "comparison measures",
            MEASURING_FORMAT,
            corpus.held_out_fingerprint,
            Path(self.motion_network).name if self.motion_network else "",
            self.perceptual.to_yaml(),
            self.max_perceptual_clips,
            self.max_probe_clips,
            self.usage_ids_per_code,
        )


@dataclass(frozen=True)
class RunSpec:
    """Everything that one run needs; small, so it can travel to another process.

    Attributes:
        row: What is trained.
        seed: Seed of weights, clips and augmentation.
        corpus: What it is trained and measured on.
        lexicon: Name or directory of the words.
        model: Sizes of the decoupled tokenizer, with the row's own settings.
        training: Phases and optimiser; its seed is replaced.
        measuring: How it is measured.
        output: Directory of all runs.
    """

    row: RowConfig
    seed: int
    corpus: PreparedCorpus
    lexicon: str
    model: SweetTokConfig
    training: TrainerConfig
    measuring: MeasuringSpec
    output: str

    @property
    def name(self) -> str:
        """Names the run to people."""
        return f"{self.corpus.name} · {self.row.name} · seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Where weights and result go; other weights have another directory."""
        recipe = stable_id(
            "comparison run",
            TRAINING_FORMAT,
            self.corpus.training_fingerprint,
            Lexicon.load(self.lexicon).content_hash,
            self.row.variant,
            self.model.to_yaml(),
            self.training.to_yaml(),
        )
        name = f"{self.corpus.name}-{self.row.slug}-seed{self.seed}-{recipe[:8]}"
        return Path(self.output) / name

    def finished(self) -> dict[str, Any] | None:
        """The result, if the run is trained and measured as it is measured now."""
        return read_result(self.directory, self.measuring.recipe(self.corpus))
