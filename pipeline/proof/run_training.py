"""The training of one run; its weights are kept, so that it can be measured again without it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.proof.comparison_config import CompareConfig
from pipeline.proof.one_thread import one_thread
from pipeline.proof.run_files import RESULT_FILE, RESULTS_FILE, TRAINED_FILE
from pipeline.proof.run_spec import RunSpec
from pipeline.training.trainer import Trainer
from pipeline.whole_files import replace_file
from sweettok import Lexicon
from sweettok.baselines import build_variant
from sweettok.baselines.variants import AnyTokenizer

_CURVE_STEPS = 20


@dataclass(frozen=True)
class TrainingRecord:
    """What there is to say of a training.

    Attributes:
        num_steps: Steps taken.
        cpu_s: CPU seconds of one thread.
        curve: Now and then (step, PSNR in dB of the step's clips).
    """

    num_steps: int
    cpu_s: float
    curve: list[tuple[int, float]]


def trained_model(spec: RunSpec) -> tuple[AnyTokenizer, TrainingRecord, bool]:
    """The run's tokenizer in inference mode, trained now or loaded; True if now."""
    path = spec.directory / TRAINED_FILE
    with one_thread(spec.seed):
        model = build_variant(spec.row.variant, spec.model, Lexicon.load(spec.lexicon))
        if path.exists():
            return model, _load(model, path), False
        began_s = time.process_time()
        curve = train(model, spec)
        cpu_s = round(time.process_time() - began_s, 1)
    record = TrainingRecord(curve[-1][0], cpu_s, curve)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    metadata = {"training": json.dumps(asdict(record))}
    replace_file(path, safetensors.torch.save(weights, metadata=metadata))
    return model, record, True


def load_run(directory: Path) -> tuple[AnyTokenizer, str]:
    """The tokenizer of a finished run, in inference mode, and its variant.

    Args:
        directory: The run's, below that of the comparison, whose settings say what was trained.

    Raises:
        PipelineError: It is no such directory, or its weights are of other settings.
    """
    comparison = directory.resolve().parents[1] / RESULTS_FILE
    try:
        name = json.loads((directory / RESULT_FILE).read_text("utf-8"))["row"]
        values = json.loads(comparison.read_text("utf-8"))["config"]
        config = CompareConfig.from_mapping(values, origin=str(comparison))
        row = next(row for row in config.rows if row.name == name)
        lexicon = Lexicon.load(config.lexicon)
        model = build_variant(row.variant, row.applied_to(config.model), lexicon)
        _load(model, directory / TRAINED_FILE)
    except (OSError, ValueError, LookupError, StopIteration, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{directory}: is no run below an output of jobs/compare_methods.py ({reason})"
        ) from error
    return model, row.variant


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


def _load(model: AnyTokenizer, path: Path) -> TrainingRecord:
    with safetensors.safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()["training"])
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    model.eval()
    model.refresh_codes()
    curve = [(step, found) for step, found in values["curve"]]
    return TrainingRecord(values["num_steps"], values["cpu_s"], curve)
