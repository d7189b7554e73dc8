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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import sweettok
from pipeline.clips import ClipConfig
from pipeline.cluster import ClusterConfig, connect
from pipeline.dataset import CommitConfig, CommitSummary, Lineage, TokenDataset
from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.interface import DecodeConfig
from pipeline.encoding import EncodeConfig
from pipeline.engine import CommitTarget, DecodeSpec, EngineConfig, EngineResult, run_on_ray
from pipeline.errors import DatasetError
from pipeline.listing import SourceConfig, list_videos
from pipeline.planning import PlanCounts, plan_units
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import WorkUnit
from pipeline.storage import StorageConfig
from sweettok import Lexicon, SweetTokConfig
from sweettok.persistence import LEXICON_DIRECTORY, verified_manifest
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class DatasetConfig(StrictConfig):
    """Where the token dataset is.

    Attributes:
        uri: Its root: a local path or any URI that Delta Lake can write to ("s3://bucket/tokens").
        storage: How to reach it; credentials come from the environment.
    """

    uri: str
    storage: StorageConfig = StorageConfig()


class TokenizeConfig(StrictConfig):
    """One run of `jobs/tokenize_corpus.py`.

    Attributes:
        source: Which videos.
        tokenizer: Directory of the tokenizer (see `SweetTok.save_pretrained`).
        dataset: Where the tokens go.
        clips, preprocess, decode, encode, commit, engine, cluster: Settings of the parts, described
            where each is defined.
        retry_quarantined: Work again on unchanged inputs that gave no clip last time.
    """

    source: SourceConfig
    tokenizer: str
    dataset: DatasetConfig
    clips: ClipConfig = ClipConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    decode: DecodeConfig = DecodeConfig()
    encode: EncodeConfig = EncodeConfig()
    commit: CommitConfig = CommitConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()
    retry_quarantined: bool = False


@dataclass(frozen=True)
class TokenizeSummary:
    """What a run did; `num_listed` is the sum of the next three.

    Attributes:
        run_id: Name of the run.
        dataset_uri: Root of the dataset.
        dataset_version: Its version after the run.
        num_listed: Inputs found.
        num_tokenized: Inputs whose clips this run committed.
        num_quarantined: Inputs that this run quarantined.
        num_unchanged: Inputs that the dataset already had, or that another run finished meanwhile.
        num_clips: Clips committed by this run.
        duration_s: Seconds from the first listed input to the last commit.
        steady_clips_per_s: Clips per second once the encoders were at work.
        reasons: How many inputs this run quarantined for each reason.
    """

    run_id: str
    dataset_uri: str
    dataset_version: int
    num_listed: int
    num_tokenized: int
    num_quarantined: int
    num_unchanged: int
    num_clips: int
    duration_s: float
    steady_clips_per_s: float
    reasons: dict[str, int]

    def lines(self) -> list[str]:
        """The summary for people."""
        accounts = (
            f"listed {self.num_listed} = tokenized {self.num_tokenized} + quarantined "
            f"{self.num_quarantined} + unchanged {self.num_unchanged}"
        )
        if not self.num_tokenized and not self.num_quarantined:
            return [accounts, f"nothing to do: {self.dataset_uri} is up to date"]
        rate = self.num_clips / self.duration_s if self.duration_s else 0.0
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return [
            accounts,
            *(
                [f"quarantined: {reasons}; why, in {self.dataset_uri}/_quarantine"]
                if reasons
                else []
            ),
            f"{self.num_clips} clips in {self.duration_s:.1f} s ({rate:.1f} clips/s with start-up, "
            f"{self.steady_clips_per_s:.1f} without) → {self.dataset_uri} version "
            f"{self.dataset_version}",
        ]


def tokenize_corpus(config: TokenizeConfig) -> TokenizeSummary:
    """Brings the dataset up to date with the source; starting it again continues or does nothing.

    Raises:
        PipelineError: The source, the dataset or a stage fails as a whole.
        SweetTokError: The tokenizer cannot be loaded.
    """
    started_s = time.monotonic()
    manifest = verified_manifest(config.tokenizer)
    model_config = SweetTokConfig.from_mapping(manifest["config"], origin=config.tokenizer)
    lineage = build_lineage(config, manifest, model_config)
    dataset = TokenDataset.create_or_open(
        config.dataset.uri, lineage, config_yaml=config.to_yaml(), storage=config.dataset.storage
    )
    dataset.store_tokenizer(config.tokenizer)
    units, counts = plan_units(
        list_videos(config.source),
        dataset.finished_units(),
        retry_quarantined=config.retry_quarantined,
    )
    logger.info(
        "%d videos listed: %d new, %d changed, %d tokenized before, %d quarantined before",
        counts.num_listed,
        counts.num_new,
        counts.num_changed,
        counts.num_tokenized,
        counts.num_quarantined,
    )
    run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    result = EngineResult(CommitSummary(), 0.0)
    if units:
        dataset.write_run_file(run_id, "config.yaml", config.to_yaml())
        result = _run(config, model_config, units, run_id)
        dataset.refresh()
    summary = _summary(run_id, dataset, counts, result, time.monotonic() - started_s)
    if units:
        text = json.dumps(dataclasses.asdict(summary), indent=2) + "\n"
        dataset.write_run_file(run_id, "summary.json", text)
    return summary


def build_lineage(
    config: TokenizeConfig, manifest: dict[str, Any], model_config: SweetTokConfig
) -> Lineage:
    """What decides the ids of this run's tokens."""
    lexicon = Lexicon.load(Path(config.tokenizer) / LEXICON_DIRECTORY)
    return Lineage(
        weights_hash=manifest["fingerprint"],
        codebook_hash=lexicon.content_hash,
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
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    )


def _run(
    config: TokenizeConfig, model_config: SweetTokConfig, units: list[WorkUnit], run_id: str
) -> EngineResult:
    connect(config.cluster)
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
    counts: PlanCounts,
    result: EngineResult,
    duration_s: float,
) -> TokenizeSummary:
    committed = result.committed
    done = committed.num_videos + committed.num_quarantined
    summary = TokenizeSummary(
        run_id=run_id,
        dataset_uri=dataset.uri,
        dataset_version=dataset.version,
        num_listed=counts.num_listed,
        num_tokenized=committed.num_videos,
        num_quarantined=committed.num_quarantined,
        num_unchanged=counts.num_listed - done,
        num_clips=committed.num_clips,
        duration_s=duration_s,
        steady_clips_per_s=result.steady_clips_per_s,
        reasons=_reasons(dataset, run_id) if committed.num_quarantined else {},
    )
    planned = counts.num_new + counts.num_changed
    if done + committed.num_skipped < planned:
        raise DatasetError(
            f"{planned} videos were planned, but only {done} are accounted for and "
            f"{committed.num_skipped} were finished by another run; run the same command again"
        )
    return summary


def _reasons(dataset: TokenDataset, run_id: str) -> dict[str, int]:
    rows = dataset.quarantine().select(["run_id", "reason"]).to_pylist()
    return dict(Counter(row["reason"] for row in rows if row["run_id"] == run_id).most_common())
