"""Measures all sides in turns: what `jobs/bench_pipeline.py` runs."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.throughput.config import TEXTBOOKS, PipelineBenchmarkConfig, SideName
from pipeline.throughput.figures import SideFigures, side_figures
from pipeline.throughput.picture import report_picture
from pipeline.throughput.report import ClipFacts, PipelineReport
from pipeline.throughput.sides import run_side
from pipeline.throughput.tokens import (
    ClipTokens,
    DiskFigures,
    disk_figures,
    equal_share,
    side_tokens,
)
from pipeline.throughput.workplace import Workplace
from pipeline.whole_files import replace_file

logger = logging.getLogger(__name__)

_WITH_ALL_CLIPS: tuple[SideName, ...] = ("pipeline", "two_processes", "serial", *TEXTBOOKS)
# Same pixels, same encoder, so the same ids are owed; the textbook's decoder is another one.
_WITH_OUR_PIXELS: tuple[SideName, ...] = ("encode", "two_processes", "serial")
_MAY_BE_LEFT_OUT = TEXTBOOKS


def bench_pipeline(config: PipelineBenchmarkConfig) -> PipelineReport:
    """Runs every side `num_rounds` times, in turns, and writes the JSON file and the picture.

    Raises:
        PipelineError: A side failed, lost clips or gave other tokens than the pipeline.
    """
    rounds = _Rounds(config)
    for number in range(1, config.num_rounds + 1):
        rounds.measure(number)
    report = rounds.report()
    replace_file(
        Path(config.output), (json.dumps(report.to_json_values(), indent=2) + "\n").encode()
    )
    picture = Path(config.picture)
    picture.parent.mkdir(parents=True, exist_ok=True)
    report_picture(report).save(picture)
    return report


class _Rounds:
    """What was found so far."""

    def __init__(self, config: PipelineBenchmarkConfig) -> None:
        self._config = config
        self._figures: list[dict[SideName, SideFigures]] = []
        self._left_out: dict[SideName, str] = {}
        self._equal_shares: dict[SideName, float] = {}
        self._disk: DiskFigures | None = None

    def measure(self, number: int) -> None:
        """One round: every side once."""
        figures: dict[SideName, SideFigures] = {}
        tokens: dict[SideName, ClipTokens] = {}
        for side in self._config.sides:
            if side in self._left_out:
                continue
            place = Workplace(self._config, Path(self._config.scratch) / f"{number}-{side}")
            shutil.rmtree(place.directory, ignore_errors=True)
            try:
                figures[side] = side_figures(run_side(side, place))
            except PipelineError as error:
                if side not in _MAY_BE_LEFT_OUT:
                    raise
                self._left_out[side] = str(error)
                continue
            tokens[side] = side_tokens(place.directory)
            if side == "pipeline":
                self._disk = disk_figures(place.directory / "tokens")
            shutil.rmtree(place.directory)
            logger.info(
                "round %d, %s: %.2f clips/s, %.4f CPU s per clip",
                number,
                side,
                figures[side].clips_per_s,
                figures[side].cpu_s_per_clip,
            )
        for side, share in compare_tokens(tokens).items():
            self._equal_shares[side] = min(share, self._equal_shares.get(side, 1.0))
        self._figures.append(figures)

    def report(self) -> PipelineReport:
        """Everything, once all rounds are measured."""
        assert self._disk is not None, "no round was measured"
        for figures, side in itertools.product(self._figures, self._left_out):
            figures.pop(side, None)
        return PipelineReport(
            self._config,
            tuple(self._figures),
            self._left_out,
            self._equal_shares,
            self._disk,
            self._clip_facts(),
        )

    def _clip_facts(self) -> ClipFacts:
        place = Workplace(self._config, Path(self._config.scratch))
        clip_bytes = place.decode_spec().settings.clip_bytes
        return ClipFacts(place.model_config.num_tokens, clip_bytes)


def compare_tokens(tokens: Mapping[SideName, ClipTokens]) -> dict[SideName, float]:
    """The gate: as many clips on every side, and equal ids where the pixels are equal.

    Args:
        tokens: What each side gave in one round, the pipeline among them.

    Returns:
        Per other side with tokens, the share of its clips whose ids are the pipeline's.

    Raises:
        PipelineError: The figures would compare different work.
    """
    ours = tokens["pipeline"]
    if not ours:
        raise PipelineError("no video gave a clip; the figures would be about nothing")
    shares: dict[SideName, float] = {}
    for side, found in tokens.items():
        if side in _WITH_ALL_CLIPS and found.keys() != ours.keys():
            missing, more = len(ours.keys() - found.keys()), len(found.keys() - ours.keys())
            raise PipelineError(
                f"{side} has {len(found)} clips, the pipeline {len(ours)}: {missing} are missing "
                f"and {more} are not the pipeline's; different work does not compare"
            )
        if side in ("decode", "pipeline"):
            continue
        shares[side] = equal_share(found, ours)
        if side in _WITH_OUR_PIXELS and shares[side] < 1.0:
            raise PipelineError(
                f"{side} gave other ids than the pipeline for {1 - shares[side]:.1%} of its clips; "
                "with encode.batch_invariant they must be equal"
            )
    return shares
