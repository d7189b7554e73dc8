"""The whole comparison: every row, corpus and seed, in parallel, and what came of it.

Each run is a unit of its own: finished ones are kept, so the same command continues an interrupted
comparison and only draws its table when nothing is left to do.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from pipeline.errors import PipelineError
from pipeline.motion_corpus.corpus import MotionCorpusConfig
from pipeline.proof.corpora import (
    NaturalVideoConfig,
    PreparedCorpus,
    prepare_motion,
    prepare_natural,
)
from pipeline.proof.motion_network import MotionNetworkConfig, load_motion_network
from pipeline.proof.motion_training import ensure_motion_network
from pipeline.proof.pictures import comparison_picture
from pipeline.proof.runs import RunSpec, run_one
from pipeline.proof.tables import Yardstick, markdown_tables
from pipeline.training.trainer_config import TrainerConfig
from sweettok import Lexicon, SweetTokConfig
from sweettok.baselines import VARIANTS, build_variant
from sweettok.errors import ConfigError
from sweettok.losses.perceptual import PerceptualConfig
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

REFERENCE_ROW = "decoupled"
TABLE_FILE, RESULTS_FILE, PICTURE_FILE = "table.md", "results.json", "picture.png"


class CompareConfig(StrictConfig):
    """The settings of `jobs/compare_methods.py`; the same for all rows.

    Attributes:
        rows: Variants to compare, in the table's order.
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

    rows: tuple[str, ...] = tuple(VARIANTS)
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
    def _something_to_compare(self) -> CompareConfig:
        unknown = [row for row in self.rows if row not in VARIANTS]
        if unknown or not self.rows:
            raise ValueError(f"rows must be some of {', '.join(VARIANTS)}, got {self.rows}")
        if self.motion is None and self.natural is None:
            raise ValueError("motion and natural are both null: there is nothing to train on")
        return self


@dataclass(frozen=True)
class Comparison:
    """What the comparison gave.

    Attributes:
        tables: Markdown.
        directory: Where the tables, all results and the picture lie.
        num_new: Runs made by this call.
    """

    tables: str
    directory: Path
    num_new: int


def compare_methods(config: CompareConfig) -> Comparison:
    """Makes all runs that are not there yet, then the tables and the picture.

    Raises:
        ConfigError: A row has more or fewer parameters than the tolerance allows.
        SourceError: A corpus cannot be made.
        PipelineError: A run's process died.
    """
    check_parameters(config)
    output = Path(config.output)
    corpora = prepare_corpora(config, output)
    network = _motion_network(config, corpora, output)
    specs = _all_runs(config, corpora, network)
    waiting = [spec for spec in specs if spec.finished() is None]
    logger.info("%d runs, %d of them done before", len(specs), len(specs) - len(waiting))
    _run_all(waiting, config.num_processes or os.cpu_count() or 1)
    results = [result for spec in specs if (result := spec.finished()) is not None]
    yardstick = None
    if network is not None:
        trained = load_motion_network(network)
        yardstick = Yardstick(trained.accuracy, trained.network.to_features.out_features)
    tables = markdown_tables(results, config.rows, yardstick)
    (output / TABLE_FILE).write_text(tables, encoding="utf-8")
    text = json.dumps({"config": config.to_mapping(), "results": results}, indent=1) + "\n"
    (output / RESULTS_FILE).write_text(text, encoding="utf-8")
    comparison_picture(specs).save(output / PICTURE_FILE)
    return Comparison(tables, output, len(waiting))


def prepare_corpora(config: CompareConfig, output: Path) -> list[PreparedCorpus]:
    """Makes, decodes and splits the corpora, motion first."""
    corpora, directory = [], output / "frames"
    if config.motion is not None:
        corpora.append(prepare_motion(config.motion, config.model.geometry, directory))
    if config.natural is not None:
        corpora.append(prepare_natural(config.natural, config.model.geometry, directory))
    for corpus in corpora:
        sizes = ", ".join(f"{len(clips)} {name}" for name, clips in corpus.held_out.items())
        logger.info("%s: held-out clips: %s", corpus.name, sizes)
    return corpora


def _motion_network(
    config: CompareConfig, corpora: Sequence[PreparedCorpus], output: Path
) -> Path | None:
    for corpus in corpora:
        if corpus.labelled_training is not None:
            held_out = corpus.held_out["test"]
            return ensure_motion_network(
                config.motion_network, corpus.labelled_training, held_out, output
            )
    logger.info("no motion corpus: neither motion network nor probe")
    return None


def _all_runs(
    config: CompareConfig, corpora: Sequence[PreparedCorpus], network: Path | None
) -> list[RunSpec]:
    """Seed by seed: a comparison that is stopped early has whole rows of the first seeds."""
    perceptual = config.perceptual
    if perceptual.weights is not None and not Path(perceptual.weights).exists():
        logger.warning(
            "%s is missing: no perceptual distance; python jobs/fetch_feature_weights.py makes it",
            perceptual.weights,
        )
        perceptual = PerceptualConfig()
    return [
        RunSpec(
            row=row,
            seed=seed,
            corpus=corpus,
            lexicon=config.lexicon,
            model=config.model,
            training=_training_on(corpus.name, config),
            # Where there are no motions to name, the network has nothing to say.
            motion_network=str(network) if corpus.labelled_training is not None else None,
            perceptual=perceptual,
            max_perceptual_clips=config.max_perceptual_clips,
            max_probe_clips=config.max_probe_clips,
            output=str(Path(config.output) / "runs"),
        )
        for seed in config.seeds
        for corpus in corpora
        for row in config.rows
    ]


def _training_on(corpus: str, config: CompareConfig) -> TrainerConfig:
    """The phases, the last one of the corpus's own length."""
    num_steps = next((steps for name, steps in config.num_steps.items() if name == corpus), None)
    if num_steps is None:
        return config.training
    phases = dict(config.training.phases)
    name, last = phases.popitem()
    phases[name] = last.model_copy(update={"num_steps": num_steps})
    return config.training.model_copy(update={"phases": phases})


def _run_all(specs: Sequence[RunSpec], num_processes: int) -> None:
    started_s = time.monotonic()
    for done, (spec, result) in enumerate(_results(specs, num_processes), 1):
        elapsed_s = time.monotonic() - started_s
        logger.info(
            "%d/%d %s: %s; about %.0f min left",
            done,
            len(specs),
            spec.name,
            _summary(result),
            elapsed_s / done * (len(specs) - done) / 60,
        )


def _results(
    specs: Sequence[RunSpec], num_processes: int
) -> Iterator[tuple[RunSpec, dict[str, Any]]]:
    """Makes the runs, each in one thread; gives them as they end."""
    if min(num_processes, len(specs)) <= 1:
        yield from ((spec, run_one(spec)) for spec in specs)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_processes, len(specs)), context)
    futures = {pool.submit(run_one, spec): spec for spec in specs}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise PipelineError(
            "the process of a run died (out of memory?); lower num_processes and start again: "
            "finished runs are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _summary(result: dict[str, Any]) -> str:
    fidelity = ", ".join(
        f"{name} {part['psnr_db']:.2f} dB" for name, part in result["parts"].items()
    )
    cpu_s = f"{result['training_cpu_s']:.0f} + {result['measuring_cpu_s']:.0f} CPU-s"
    return f"{fidelity}; training + measuring {cpu_s}"


def check_parameters(config: CompareConfig) -> None:
    """Builds every row once and compares its size with the decoupled row's.

    Raises:
        ConfigError: A row has more or fewer parameters than the tolerance allows.
    """
    lexicon = Lexicon.load(config.lexicon)
    reference = build_variant(REFERENCE_ROW, config.model, lexicon).num_parameters
    for row in config.rows:
        found = build_variant(row, config.model, lexicon).num_parameters
        difference = found / reference - 1
        logger.info("%s: %d parameters (%+.1f %%)", row, found, 100 * difference)
        if abs(difference) > config.parameter_tolerance:
            raise ConfigError(
                f"row {row!r} has {found} parameters, {100 * difference:+.1f} % of "
                f"{REFERENCE_ROW}'s {reference}; parameter_tolerance allows "
                f"{100 * config.parameter_tolerance:g} %: change model or parameter_tolerance"
            )
