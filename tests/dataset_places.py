"""Places where a dataset can be, local disk and S3 alike, and what is in them byte for byte."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import botocore.session
import pyarrow.parquet as pq

from pipeline.dataset import CommitConfig, CommitSummary, Committer, TokenDataset
from pipeline.storage import StorageConfig
from tests.token_samples import Record, sample_lineage

Row = dict[str, object]


@dataclass(frozen=True)
class Place:
    """The root of a dataset.

    Attributes:
        uri: Where it is.
        storage: How to reach it.
    """

    uri: str
    storage: StorageConfig = field(default_factory=StorageConfig)

    def open(self, version: int | None = None, pin: str | None = None) -> TokenDataset:
        """The dataset."""
        return TokenDataset.open(self.uri, version, pin=pin, storage=self.storage)

    def commit(
        self, records: Iterable[Record], config: CommitConfig | None = None, run_id: str = "run"
    ) -> CommitSummary:
        """Opens or creates the dataset and commits `records` as one run."""
        dataset = TokenDataset.create_or_open(self.uri, sample_lineage(), storage=self.storage)
        committer = Committer(dataset, run_id, config)
        for record in records:
            committer.add(record)
        return committer.close()

    def rows(self, version: int | None = None, pin: str | None = None) -> list[Row]:
        """All clip rows, the run left out, in clip order."""
        rows = self.open(version, pin).rows().read_all().drop_columns(["run_id"])
        return rows.sort_by([("video_uri", "ascending"), ("clip_index", "ascending")]).to_pylist()

    def files(self) -> dict[str, bytes]:
        """Everything below the root, by relative path."""
        if self.storage.endpoint_url is None:
            root = Path(self.uri)
            paths = [path for path in root.rglob("*") if path.is_file()]
            return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
        client = botocore.session.get_session().create_client(
            "s3", endpoint_url=self.storage.endpoint_url, region_name=self.storage.region
        )
        prefix = self.uri.removeprefix("s3://corpus/") + "/"
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="corpus", Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page["Contents"]]
        return {
            key.removeprefix(prefix): client.get_object(Bucket="corpus", Key=key)["Body"].read()
            for key in keys
        }

    def data_files(self) -> dict[str, bytes]:
        """The data files of the clip table, of whatever version, and those of no version."""
        return {path: content for path, content in self.files().items() if path.startswith("part-")}

    def stored_rows(self) -> list[Row]:
        """All rows of all data files that lie in the place, whatever the log says of them."""
        tables = [pq.read_table(io.BytesIO(content)) for content in self.data_files().values()]
        return [row for table in tables for row in table.to_pylist()]


def local_place(folder: Path) -> Place:
    """A dataset on this disk."""
    return Place(str(folder / "tokens"))


def s3_place(endpoint_url: str) -> Place:
    """A dataset of its own on the S3 server of the session."""
    storage = StorageConfig(endpoint_url=endpoint_url, region="us-east-1")
    return Place(f"s3://corpus/{uuid.uuid4().hex}/tokens", storage)
