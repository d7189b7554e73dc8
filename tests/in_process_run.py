"""The whole job without Ray: what every other way of running it is compared with."""

from __future__ import annotations

from pathlib import Path

import polars

from pipeline.dataset import Committer, TokenDataset
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeStage
from pipeline.engine import run_in_process
from pipeline.planning import plan_units
from pipeline.sources import list_videos
from pipeline.tokenization import TokenizeConfig, build_lineage
from sweettok.tokenizer_manifest import read_manifest
from tests.tiny_models import tiny_config


def tokenize_in_process(config: TokenizeConfig, *, batch_size: int) -> TokenDataset:
    """What `tokenize_corpus` does, without Ray."""
    manifest = read_manifest(config.tokenizer)
    model_config = tiny_config()
    dataset = TokenDataset.create_or_open(
        config.dataset.uri, build_lineage(config, manifest, model_config)
    )
    dataset.store_tokenizer(config.tokenizer)
    units, _ = plan_units(list_videos(config.source), dataset.finished_units())
    run_in_process(
        units,
        DecodeStage(
            config.decode,
            config.clips,
            config.preprocess,
            model_config.geometry,
            config.source.storage,
        ),
        EncodeStage(config.tokenizer, config.encode.model_copy(update={"batch_size": batch_size})),
        Committer(dataset, "in-process", config.commit),
        batch_size=batch_size,
    )
    dataset.refresh()
    return dataset


def token_rows(root: Path | str) -> polars.DataFrame:
    """All rows but the run's name, in a fixed order."""
    return polars.read_delta(str(root)).drop("run_id").sort("clip_id")
