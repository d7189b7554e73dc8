"""Where a token dataset is, as a part of a job's configuration."""

from __future__ import annotations

from pipeline.storage import StorageConfig
from sweettok.strict_config import StrictConfig


class DatasetConfig(StrictConfig):
    """Where the token dataset is.

    Attributes:
        uri: Its root: a local path or any URI that Delta Lake can write to ("s3://bucket/tokens").
        storage: How to reach it; credentials come from the environment.
    """

    uri: str
    storage: StorageConfig = StorageConfig()
