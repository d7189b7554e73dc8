"""Properties without which a Delta table would lose what we promise of it.

By default the library drops log entries after 30 days, and with them every pinned version, and
forgets after 7 days which files were removed, so that a longer retention could not be kept: when a
version stops being readable is left to our own maintenance.

Files carry statistics of a few columns only. Unless the table says which ones, the library takes
the bounds of all others for null, and a pyarrow filter on such a column silently finds no row.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.dataset as pa_dataset

from pipeline.dataset.data_files import STATISTICS_COLUMNS

_KEEPS_OLD_VERSIONS = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
_STATISTICS = "delta.dataSkippingStatsColumns"


def wanted_properties(schema: pa.Schema) -> dict[str, str]:
    """The properties that a table with these columns should have."""
    columns = [name for name in STATISTICS_COLUMNS if name in schema.names]
    return {**_KEEPS_OLD_VERSIONS, _STATISTICS: ",".join(columns)}


def honest_dataset(
    dataset: pa_dataset.FileSystemDataset, properties: Mapping[str, str]
) -> pa_dataset.FileSystemDataset:
    """The dataset of a table; without the bounds of columns if they cannot be trusted."""
    if _STATISTICS in properties:
        return dataset
    fragments = [
        dataset.format.make_fragment(fragment.path, filesystem=fragment.filesystem)
        for fragment in dataset.get_fragments()
    ]
    return pa_dataset.FileSystemDataset(
        fragments, dataset.schema, dataset.format, dataset.filesystem
    )
