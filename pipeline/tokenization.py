"""Tokenizing a corpus: list, plan, decode, encode, commit, account for every input.

`tokenize_corpus` is what `jobs/tokenize_corpus.py` runs; everything it needs is in a
`TokenizeConfig`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

import pyarrow.compute as pc
import pydantic

import sweettok
from pipeline.cluster import connect
from pipeline.cluster_plan_job import warn_if_lopsided
from pipeline.dataset import CommitSummary, DatasetConfig, Lineage, TokenDataset
from pipeline.dataset.finished_units import FinishedUnits
from pipeline.dataset.schema import check_attribute_names
from pipeline.decoding.cutting import CutSettings
from pipeline.engine import CommitTarget, DecodeSpec, EngineResult, run_on_ray
from pipeline.errors import DatasetError, QuarantineReason, SourceError
from pipeline.estimation.config import EstimateConfig
from pipeline.planning import Plan, PlanCounts, plan
from pipeline.run_page import RunPage
from pipeline.run_totals import RunTotals
from pipeline.sources import list_batches
from pipeline.stage_settings import StageSettings
from pipeline.tokenize_summary import TokenizeSummary
from pipeline.unit_table import UnitTable
from sweettok import SweetTokConfig
from sweettok.tokenizer_manifest import codebook_hash, verified_manifest

logger = logging.getLogger(__name__)

_ALL_REASONS = "all"
_RETRYABLE = tuple(reason for reason in QuarantineReason if reason != QuarantineReason.TAKEN_DOWN)


class TargetConfig(DatasetConfig):
    """Where the tokens go.

    Attributes:
        new_version_of: Root of a dataset made with another tokenizer or other settings that this
            one continues: it is recorded here, and what was taken down there stays out here too.
    """

    new_version_of: str | None = None


class TokenizeConfig(StageSettings):
    """One run of `jobs/tokenize_corpus.py`, beside the settings of its stages.

    Attributes:
        dataset: Where the tokens go.
        on_removed: What becomes of videos that the dataset holds and the source no longer lists:
            "keep" leaves them alone; "delete" deletes their rows, so that the source is the whole
            truth of what the dataset holds.
        max_removed_fraction: With "delete", a run whose source lacks more than this share of the
            dataset's videos is refused: the source is probably not the one that was meant.
        retry_quarantined: Reasons for which unchanged inputs that gave no clip last time are worked
            on again; [all] stands for every reason.
        quarantine_budget: Share of the listed videos that may be in quarantine at the end, in
            [0, 1]: a run with more does all of its work, and its job ends with an exit code that
            says so. None allows all. (`engine.max_quarantine_fraction` stops a run early.)
        costs: Results of `jobs/bench_pipeline.py`: with them a run warns at its start if decoding
            and encoding do not fit together on the cluster, and a dry run without a GPU knows what
            one does.
        dry_run: Only say what the run would do, from a sample (`pipeline.estimation`).
        estimate: How a dry run takes its sample, and what it reckons with.
    """

    dataset: TargetConfig
    on_removed: Literal["keep", "delete"] = "keep"
    max_removed_fraction: float = pydantic.Field(default=0.2, ge=0, le=1)
    retry_quarantined: tuple[str, ...] = ()
    quarantine_budget: float | None = pydantic.Field(default=None, ge=0, le=1)
    costs: tuple[str, ...] = ()
    dry_run: bool = False
    estimate: EstimateConfig = EstimateConfig()

    @pydantic.field_validator("retry_quarantined")
    @classmethod
    def _check_reasons(cls, reasons: tuple[str, ...]) -> tuple[str, ...]:
        for reason in reasons:
            if reason == QuarantineReason.TAKEN_DOWN:
                raise ValueError("a takedown is lifted by jobs/maintain_dataset.py, not retried")
            if reason not in (_ALL_REASONS, *_RETRYABLE):
                known = ", ".join(_RETRYABLE)
                raise ValueError(f"unknown reason {reason!r} (known: {_ALL_REASONS}, {known})")
        return reasons

    @property
    def retried_reasons(self) -> tuple[QuarantineReason, ...]:
        """`retry_quarantined` with [all] written out."""
        if _ALL_REASONS in self.retry_quarantined:
            return _RETRYABLE
        return tuple(QuarantineReason(reason) for reason in self.retry_quarantined)


def tokenize_corpus(config: TokenizeConfig) -> TokenizeSummary:
    """Brings the dataset up to date with the source; starting it again continues or does nothing.

    Raises:
        PipelineError: The source, the dataset or a stage fails as a whole.
        SweetTokError: The tokenizer cannot be loaded.
    """
    started_s = time.monotonic()
    manifest = verified_manifest(config.tokenizer_directory)
    model_config = SweetTokConfig.from_mapping(manifest["config"], origin=config.tokenizer)
    lineage = build_lineage(config, manifest, model_config)
    dataset, work = _prepared(config, lineage)
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    is_deleting = config.on_removed == "delete" and len(work.removed) > 0
    if work.units or is_deleting:
        dataset.write_run_file(run_id, "config.yaml", config.to_yaml())
    num_deleted = _delete_removed(dataset, work, run_id) if is_deleting else 0
    result = EngineResult(CommitSummary(), 0.0)
    if work.units:
        result = _run(config, model_config, work.units, run_id)
        dataset.refresh()
    duration_s = time.monotonic() - started_s
    quarantined = _quarantined_by(dataset, run_id) if result.committed.num_quarantined else []
    summary = _summary(run_id, dataset, work, result, num_deleted, quarantined, duration_s)
    if work.units or is_deleting:
        _write_run_files(config, dataset, summary, result, quarantined)
    return summary


def _write_run_files(
    config: TokenizeConfig,
    dataset: TokenDataset,
    summary: TokenizeSummary,
    result: EngineResult,
    quarantined: list[dict[str, Any]],
) -> None:
    totals = result.timeline[-1].totals if result.timeline else RunTotals()
    values = dataclasses.asdict(summary) | {"totals": dataclasses.asdict(totals)}
    text = json.dumps(values, indent=2) + "\n"
    dataset.write_run_file(summary.run_id, "summary.json", text)
    page = RunPage(summary, result.timeline, quarantined, config.to_yaml())
    dataset.write_run_file(summary.run_id, "index.html", page.html())


def planned(config: TokenizeConfig, lineage: Lineage) -> Plan:
    """What `tokenize_corpus` would have to do; makes and writes nothing.

    Raises:
        PipelineError: The source cannot be listed, or the dataset refuses this run.
    """
    place = config.dataset
    if TokenDataset.exists(place.uri, storage=place.storage):
        dataset = TokenDataset.open(place.uri, storage=place.storage)
        dataset.check_lineage(lineage)
        return _plan(config, dataset.finished_units(), dataset.attribute_names)
    finished = TokenDataset.finished_before(
        place.uri, lineage, storage=place.storage, new_version_of=place.new_version_of
    )
    return _plan(config, finished, [])


def _prepared(config: TokenizeConfig, lineage: Lineage) -> tuple[TokenDataset, Plan]:
    """The dataset and what is to do.

    A dataset that refuses this run is found before the listing, which may take hours; a new
    dataset is made after it, so that a source that cannot be listed leaves none behind.
    """
    place = config.dataset
    if TokenDataset.exists(place.uri, storage=place.storage):
        dataset = _open_target(config, lineage)
        return dataset, _plan(config, dataset.finished_units(), dataset.attribute_names)
    work = planned(config, lineage)
    return _open_target(config, lineage), work


def _open_target(config: TokenizeConfig, lineage: Lineage) -> TokenDataset:
    dataset = TokenDataset.create_or_open(
        config.dataset.uri,
        lineage,
        config_yaml=config.to_yaml(),
        storage=config.dataset.storage,
        new_version_of=config.dataset.new_version_of,
    )
    dataset.store_tokenizer(config.tokenizer_directory)
    return dataset


def _plan(config: TokenizeConfig, finished: FinishedUnits, attribute_names: Sequence[str]) -> Plan:
    """What is to do, refused where doing it would be a mistake."""
    work = plan(
        # What a damaged shard does not show is not removed.
        list_batches(config.source, allow_damage=config.on_removed == "keep"),
        finished,
        retry_quarantined=config.retried_reasons,
    )
    counts = work.counts
    logger.info(
        "%d videos listed: %d new, %d changed, %d tokenized before, %d quarantined before, "
        "%d taken down, %d listed again; %d of the dataset's are not listed",
        counts.num_listed,
        counts.num_new,
        counts.num_changed,
        counts.num_tokenized,
        counts.num_quarantined,
        counts.num_taken_down,
        counts.num_repeated,
        counts.num_removed,
    )
    if config.on_removed == "delete":
        _check_removed(config, counts)
    check_attribute_names(list(dict.fromkeys([*attribute_names, *work.units.attributes])))
    return work


def _check_removed(config: TokenizeConfig, counts: PlanCounts) -> None:
    limit = config.max_removed_fraction
    if counts.num_removed <= limit * counts.num_finished:
        return
    raise SourceError(
        f"the source lists {counts.num_listed} videos and lacks {counts.num_removed} of the "
        f"{counts.num_finished} in {config.dataset.uri}, more than max_removed_fraction = "
        f"{limit:g}; nothing was deleted. Check that source names the whole corpus, set "
        "on_removed to keep, or raise max_removed_fraction if they are to go"
    )


def _delete_removed(dataset: TokenDataset, work: Plan, run_id: str) -> int:
    num_deleted = dataset.delete_videos(
        work.removed.combine_chunks(), run_id=run_id, reason="no longer in the source"
    )
    logger.info("%d videos deleted that are no longer in the source", num_deleted)
    return num_deleted


def build_lineage(
    config: TokenizeConfig, manifest: dict[str, Any], model_config: SweetTokConfig
) -> Lineage:
    """What decides the ids of this run's tokens."""
    return Lineage(
        weights_hash=manifest["fingerprint"],
        codebook_hash=codebook_hash(config.tokenizer_directory, manifest),
        geometry=model_config.geometry,
        num_spatial_tokens=model_config.num_spatial_tokens,
        num_temporal_tokens=model_config.num_temporal_tokens,
        num_spatial_words=model_config.num_spatial_words,
        num_temporal_words=model_config.num_temporal_words,
        preprocessing=config.preprocess.to_mapping(),
        clip_policy=config.clips.to_mapping(),
        decoder=", ".join(config.decode.decoders),
        precision=config.encode.arithmetic,
        versions={
            "sweettok": sweettok.__version__,
            "torch": version("torch"),
            "python": platform.python_version(),
        },
    )


def _run(
    config: TokenizeConfig, model_config: SweetTokConfig, units: UnitTable, run_id: str
) -> EngineResult:
    connect(config.cluster)
    warn_if_lopsided(config.costs)
    return run_on_ray(
        units,
        DecodeSpec(
            CutSettings(config.decode, config.clips, config.preprocess, model_config.geometry),
            config.source.storage,
        ),
        config.encode,
        config.engine,
        CommitTarget(config.dataset.uri, config.dataset.storage, run_id, config.commit),
    )


def _summary(
    run_id: str,
    dataset: TokenDataset,
    work: Plan,
    result: EngineResult,
    num_deleted: int,
    quarantined: list[dict[str, Any]],
    duration_s: float,
) -> TokenizeSummary:
    committed = result.committed
    done = committed.num_videos + committed.num_quarantined
    if done + committed.num_skipped < len(work.units):
        raise DatasetError(
            f"{len(work.units)} videos were planned, but only {done} are accounted for and "
            f"{committed.num_skipped} were finished by another run; run the same command again"
        )
    counts = work.counts
    num_listed = counts.num_listed - counts.num_repeated
    num_retried = len(work.units) - counts.num_new - counts.num_changed
    return TokenizeSummary(
        run_id=run_id,
        dataset_uri=dataset.uri,
        dataset_version=dataset.version,
        num_listed=num_listed,
        num_tokenized=committed.num_videos,
        num_quarantined=committed.num_quarantined,
        num_unchanged=num_listed - done,
        num_taken_down=counts.num_taken_down,
        num_in_quarantine=counts.num_quarantined - num_retried + committed.num_quarantined,
        num_repeated=counts.num_repeated,
        num_removed=counts.num_removed,
        num_deleted=num_deleted,
        num_clips=committed.num_clips,
        duration_s=duration_s,
        steady_clips_per_s=result.steady_clips_per_s,
        reasons=dict(Counter(row["reason"] for row in quarantined).most_common()),
    )


def _quarantined_by(dataset: TokenDataset, run_id: str) -> list[dict[str, Any]]:
    rows = dataset.quarantine().select(["run_id", "video_uri", "reason", "message"])
    return list(rows.filter(pc.equal(rows["run_id"], run_id)).to_pylist())
