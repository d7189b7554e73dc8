"""Every measure of every clip as one Parquet table: which clips are the worst, by any row.

polars.read_parquet("runs/evaluate_samples/clips.parquet").sort("psnr_db").head()
"""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.evaluation.parts import Part

_COLUMNS = ("psnr_db", "ssim", "perceptual", "bits", "packet_bits")


def clip_table(measured: Mapping[str, Part]) -> bytes:
    """A Parquet file: "row", "video", "position" in the evaluation, and the measures.

    Args:
        measured: Measures by row; rows without a measure of their own are left out. A measure that
            a row lacks is null.
    """
    tables = []
    for label, part in measured.items():
        if not any(name in part.measures for name in _COLUMNS):
            continue
        num_clips = len(part.videos)
        columns = {
            "row": pa.array([label] * num_clips, pa.string()),
            "video": pa.array(part.videos, pa.string()),
            "position": pa.array(range(num_clips), pa.int64()),
        }
        for name in _COLUMNS:
            values = part.measures.get(name)
            columns[name] = (
                pa.nulls(num_clips, pa.float64())
                if values is None
                else pa.array(values.double().numpy(), pa.float64(), from_pandas=True)
            )
        tables.append(pa.table(columns))
    content = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), content)
    return content.getvalue()
