"""The corpora on paper that are measured: made once, and whole or not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.scaling.growth_config import ScalingBenchmarkConfig
from pipeline.synthetic_corpus import write_dataset, write_manifest
from pipeline.whole_files import new_directory

MANIFEST, DATASET = "manifest.parquet", "tokens"


def corpus(config: ScalingBenchmarkConfig, num_units: int, clips_per_unit: int) -> Path:
    """A folder with a manifest of so many videos and a dataset that has nearly all of them."""
    folder = Path(config.directory) / f"{num_units}x{clips_per_unit}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with new_directory(folder) as partial:
            partial.mkdir()
            write_manifest(partial / MANIFEST, num_units)
            write_dataset(partial / DATASET, num_units, clips_per_unit)
    return folder


def copied_dataset(source: Path, target: Path) -> Path:
    """A dataset of its own with the same rows; data files, which never change, are shared."""
    shutil.rmtree(target, ignore_errors=True)

    def copy(from_path: str, to_path: str) -> str:
        shares = from_path.endswith(".parquet") and "_delta_log" not in from_path
        if shares:
            os.link(from_path, to_path)
        else:
            shutil.copy2(from_path, to_path)
        return to_path

    return Path(shutil.copytree(source, target, copy_function=copy))
