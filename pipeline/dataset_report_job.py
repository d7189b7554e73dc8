"""The page of any token dataset (`jobs/report_dataset.py`)."""

from __future__ import annotations

from pathlib import Path

import pydantic

from pipeline.dataset import TokenDataset
from pipeline.dataset.location import DatasetConfig
from pipeline.dataset_report import DatasetReport, ReportConfig, report_dataset
from pipeline.storage import StorageConfig
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig

CONFIG_SUFFIX = ".yaml"  # of the resolved configuration, beside the page


class ReportDatasetConfig(StrictConfig):
    """One run of `jobs/report_dataset.py`.

    Attributes:
        dataset: The token dataset; it carries its tokenizer.
        version: Version of the dataset to read; null means the latest.
        title: Heading of the page.
        source_storage: How to reach the original videos.
        report: What the page shows, and where it is written.
    """

    dataset: DatasetConfig
    version: int | None = pydantic.Field(default=None, ge=0)
    title: str = "Token dataset"
    source_storage: StorageConfig = StorageConfig()
    report: ReportConfig


def report_on_dataset(config: ReportDatasetConfig) -> DatasetReport:
    """Writes the page and its configuration; returns the numbers.

    Raises:
        DatasetError: The dataset is not there, empty or was altered.
    """
    dataset = TokenDataset.open(
        config.dataset.uri, storage=config.dataset.storage, version=config.version
    )
    report = report_dataset(
        dataset, config.report, source_storage=config.source_storage, title=config.title
    )
    beside = Path(config.report.output).with_suffix(CONFIG_SUFFIX)
    replace_file(beside, config.to_yaml().encode())
    return report
