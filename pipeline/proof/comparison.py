"""The whole comparison: every row, corpus and seed, in parallel, and what came of it.

Each run is a unit of its own: finished ones are kept, so the same command continues an interrupted
comparison and only draws its table when nothing is left to do.
"""

from __future__ import annotations

import dataclasses
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
from typing import Any

from pipeline.errors import PipelineError
from pipeline.proof.anchors import anchor_results
from pipeline.proof.comparison_config import CompareConfig
from pipeline.proof.corpora import PreparedCorpus, prepare_motion, prepare_natural
from pipeline.proof.differences import part_differences
from pipeline.proof.motion_network import load_motion_network
from pipeline.proof.motion_training import ensure_motion_network
from pipeline.proof.pictures import comparison_picture
from pipeline.proof.rows import REFERENCE_ROW
from pipeline.proof.run_files import RESULTS_FILE
from pipeline.proof.run_spec import MeasuringSpec, RunSpec
from pipeline.proof.runs import run_one
from pipeline.proof.tables import Yardstick, markdown_tables, part_tables
from pipeline.proof.token_measures import equal_ids_per_code
from pipeline.whole_files import replace_file
from sweettok import Lexicon
from sweettok.baselines import build_variant
from sweettok.bootstrap import Interval
from sweettok.errors import ConfigError
from sweettok.losses.perceptual import PerceptualConfig

logger = logging.getLogger(__name__)

Differences = dict[tuple[str, str, str], dict[str, Interval]]

TABLE_FILE, PICTURE_FILE = "table.md", "picture.png"


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
    measuring = {corpus.name: _measuring_of(corpus, config, network) for corpus in corpora}
    anchors = [
        found
        for corpus in corpora
        for found in anchor_results(corpus, measuring[corpus.name], output / "anchors")
    ]
    specs = _all_runs(config, corpora, measuring)
    waiting = [spec for spec in specs if spec.finished() is None]
    logger.info("%d runs, %d of them done before", len(specs), len(specs) - len(waiting))
    _run_all(waiting, config.num_processes or os.cpu_count() or 1)
    yardstick = None
    if network is not None:
        trained = load_motion_network(network)
        yardstick = Yardstick(trained.accuracy, trained.network.to_features.out_features)
    tables = _write_results(config, specs, anchors, yardstick, output)
    comparison_picture(specs).save(output / PICTURE_FILE)
    return Comparison(tables, output, len(waiting))


def _write_results(
    config: CompareConfig,
    specs: Sequence[RunSpec],
    anchors: Sequence[tuple[dict[str, Any], Path]],
    yardstick: Yardstick | None,
    output: Path,
) -> str:
    """Writes all results and the tables; returns the tables."""
    results = [result for spec in specs if (result := spec.finished()) is not None]
    differences = _all_differences(specs, anchors)
    without_training = [result for result, _ in anchors]
    tables = markdown_tables(
        part_tables(results, config.rows, without_training, differences), yardstick
    )
    replace_file(output / TABLE_FILE, tables.encode())
    everything = {
        "config": config.to_mapping(),
        "results": results,
        "anchors": without_training,
        "differences": [
            {"corpus": corpus, "part": part, "row": row, "to": REFERENCE_ROW}
            | {name: dataclasses.asdict(difference) for name, difference in found.items()}
            for (corpus, part, row), found in differences.items()
        ],
    }
    replace_file(output / RESULTS_FILE, (json.dumps(everything, indent=1) + "\n").encode())
    return tables


def _all_differences(
    specs: Sequence[RunSpec], anchors: Sequence[tuple[dict[str, Any], Path]]
) -> Differences:
    """Of every row and anchor to the reference row, where that was run."""
    differences: Differences = {}
    for corpus in {spec.corpus.name: spec.corpus for spec in specs}.values():
        of_corpus = [spec for spec in specs if spec.corpus.name == corpus.name]
        rows: dict[str, dict[int | None, Path]] = {}
        for spec in of_corpus:
            rows.setdefault(spec.row.name, {})[spec.seed] = spec.directory
        reference = rows.pop(REFERENCE_ROW, None)
        if reference is None:
            continue
        for result, directory in anchors:
            if result["corpus"] == corpus.name:
                rows[result["row"]] = {None: directory}
        max_clips = of_corpus[0].measuring.max_perceptual_clips
        for part, clips in corpus.held_out.items():
            for name, directories in rows.items():
                found = part_differences(directories, reference, part, clips, max_clips)
                if found:
                    differences[corpus.name, part, name] = found
    return differences


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


def _measuring_of(
    corpus: PreparedCorpus, config: CompareConfig, network: Path | None
) -> MeasuringSpec:
    perceptual = config.perceptual
    if perceptual.weights is not None and not Path(perceptual.weights).exists():
        logger.warning(
            "%s is missing: no perceptual distance; python jobs/fetch_feature_weights.py makes it",
            perceptual.weights,
        )
        perceptual = PerceptualConfig()
    return MeasuringSpec(
        # Where there are no motions to name, the network has nothing to say.
        motion_network=str(network) if corpus.labelled_training is not None else None,
        perceptual=perceptual,
        max_perceptual_clips=config.max_perceptual_clips,
        max_probe_clips=config.max_probe_clips,
        usage_ids_per_code=equal_ids_per_code(config.model),
    )


def _all_runs(
    config: CompareConfig,
    corpora: Sequence[PreparedCorpus],
    measuring: dict[str, MeasuringSpec],
) -> list[RunSpec]:
    """Seed by seed: a comparison that is stopped early has whole rows of the first seeds."""
    return [
        RunSpec(
            row=row,
            seed=seed,
            corpus=corpus,
            lexicon=config.lexicon,
            model=row.applied_to(config.model),
            training=config.training_on(corpus.name),
            measuring=measuring[corpus.name],
            output=str(Path(config.output) / "runs"),
        )
        for seed in config.seeds
        for corpus in corpora
        for row in config.rows
    ]


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
        model = row.applied_to(config.model)
        found = build_variant(row.variant, model, lexicon).num_parameters
        difference = found / reference - 1
        logger.info("%s: %d parameters (%+.1f %%)", row.name, found, 100 * difference)
        if abs(difference) > config.parameter_tolerance:
            raise ConfigError(
                f"row {row.name!r} has {found} parameters, {100 * difference:+.1f} % of "
                f"{REFERENCE_ROW}'s {reference}; parameter_tolerance allows "
                f"{100 * config.parameter_tolerance:g} %: change model or parameter_tolerance"
            )
