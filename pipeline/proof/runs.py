"""One row of the comparison with one seed: trained, measured, written as one result."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.proof.corpora import PreparedCorpus
from pipeline.proof.evaluation import measure, probe
from pipeline.proof.motion_network import load_motion_network
from pipeline.proof.one_thread import one_thread
from pipeline.records import stable_id
from pipeline.training.trainer import Trainer
from pipeline.training.trainer_config import TrainerConfig
from sweettok import Lexicon, SweetTokConfig, pixels_to_video, video_to_pixels
from sweettok.baselines import build_variant
from sweettok.baselines.variants import AnyTokenizer
from sweettok.losses.perceptual import PerceptualConfig, create_perceptual_distance

logger = logging.getLogger(__name__)

RESULT_FILE = "result.json"
RECONSTRUCTIONS_FILE = "reconstructions.safetensors"
SHOWN_CLIPS = 3  # of each part, kept as pixels for pictures
_CURVE_STEPS = 20
_FORMAT = 1  # of training and measuring: another one gives other results from the same settings


@dataclass(frozen=True)
class RunSpec:
    """Everything that one run needs; small, so it can travel to another process.

    Attributes:
        row: Name of the variant (`sweettok.baselines.VARIANTS`).
        seed: Seed of weights, clips and augmentation.
        corpus: What it is trained and measured on.
        lexicon: Name or directory of the words.
        model: Sizes of the decoupled tokenizer.
        training: Phases and optimiser; its seed is replaced.
        motion_network: File of the trained motion network; None for clips without labels.
        perceptual: The perceptual distance that is measured.
        max_perceptual_clips: On how many clips of each part.
        max_probe_clips: To how many labelled training clips the probe is fitted.
        output: Directory of all runs.
    """

    row: str
    seed: int
    corpus: PreparedCorpus
    lexicon: str
    model: SweetTokConfig
    training: TrainerConfig
    motion_network: str | None
    perceptual: PerceptualConfig
    max_perceptual_clips: int
    max_probe_clips: int
    output: str

    @property
    def name(self) -> str:
        """Names the run to people."""
        return f"{self.corpus.name} · {self.row} · seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Where the result goes; other settings have another directory."""
        network = Path(self.motion_network).name if self.motion_network else ""
        recipe = stable_id(
            "comparison run",
            _FORMAT,
            self.corpus.fingerprint,
            Lexicon.load(self.lexicon).content_hash,
            self.model.to_yaml(),
            self.training.to_yaml(),
            network,
            self.perceptual.to_yaml(),
            self.max_perceptual_clips,
            self.max_probe_clips,
        )
        return Path(self.output) / f"{self.corpus.name}-{self.row}-seed{self.seed}-{recipe[:8]}"

    def finished(self) -> dict[str, Any] | None:
        """The result, if the run is done."""
        path = self.directory / RESULT_FILE
        return json.loads(path.read_text("utf-8")) if path.exists() else None


def run_one(spec: RunSpec) -> dict[str, Any]:
    """Trains and measures on one thread; the result appears on disk when all of it is there."""
    with one_thread(spec.seed):
        model = build_variant(spec.row, spec.model, Lexicon.load(spec.lexicon))
        clock_s = [time.process_time()]
        curve = train(model, spec)
        clock_s.append(time.process_time())
        parts, reconstructions, probed = _measure_all(model, spec)
        clock_s.append(time.process_time())
    result = {
        "corpus": spec.corpus.name,
        "row": spec.row,
        "seed": spec.seed,
        "num_parameters": model.num_parameters,
        "bits_per_clip": model.bits_per_clip(),
        "num_steps": curve[-1][0],
        "training_cpu_s": round(clock_s[1] - clock_s[0], 1),
        "measuring_cpu_s": round(clock_s[2] - clock_s[1], 1),
        "curve": curve,
        "probe": probed,
        "parts": parts,
    }
    _write(spec.directory, result, reconstructions)
    return result


def train(model: AnyTokenizer, spec: RunSpec) -> list[tuple[int, float]]:
    """Trains `model`; returns (step, PSNR in dB of the step's clips) now and then."""
    config = spec.training.model_copy(update={"seed": spec.seed})
    trainer = Trainer(model, config)
    curve = []

    def batches(trainer: Trainer) -> Iterator[UInt8[Tensor, "b t h w c"]]:
        phase = trainer.phase
        sampler = spec.corpus.sampler(
            phase.geometry(spec.model.geometry),
            seed=spec.seed * len(config.phases) + trainer.position.phase_index,
            batch_size=phase.batch_size_per_worker,
        )
        return (torch.from_numpy(sampler.batch_at(step)) for step in count())

    for report in trainer.run(batches):
        step = report.position.num_steps
        if step % _CURVE_STEPS == 0 or trainer.is_done:
            curve.append((step, round(float(report.psnr_db), 3)))
    trainer.copy_weights_to(model)
    model.eval()
    return curve


def _measure_all(
    model: AnyTokenizer, spec: RunSpec
) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, float] | None]:
    network = load_motion_network(Path(spec.motion_network)) if spec.motion_network else None
    perceptual = create_perceptual_distance(spec.perceptual)
    parts, reconstructions, probed = {}, {}, None
    for name, clips in spec.corpus.held_out.items():
        measures, tokens = measure(
            model,
            clips,
            network=network,
            perceptual=perceptual,
            max_perceptual_clips=spec.max_perceptual_clips,
        )
        parts[name] = dataclasses.asdict(measures)
        shown = pixels_to_video(clips.evenly_chosen(SHOWN_CLIPS).read(slice(None)))
        with torch.no_grad():
            reconstructions[name] = video_to_pixels(model(shown).reconstruction).contiguous()
        if clips.labels and spec.corpus.labelled_training is not None:
            fitted_to = spec.corpus.labelled_training.evenly_chosen(spec.max_probe_clips)
            found = probe(model, fitted_to, clips, tokens)
            probed = dataclasses.asdict(found)
    return parts, reconstructions, probed


def _write(directory: Path, result: dict[str, Any], reconstructions: dict[str, Tensor]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / RECONSTRUCTIONS_FILE, safetensors.torch.save(reconstructions))
    # The result goes last: a run is done when it is there.
    _replace(directory / RESULT_FILE, (json.dumps(result, indent=1) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
