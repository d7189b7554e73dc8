"""Records → table rows: completed units become clip rows or quarantine rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.dataset.assembly import CompletedUnit
from pipeline.dataset.lineage import Lineage
from pipeline.dataset.schema import QUARANTINE_SCHEMA, TOKEN_SCHEMA, with_attributes
from pipeline.errors import DatasetError
from pipeline.records import TokenizedClip


def token_rows(units: Iterable[CompletedUnit], lineage: Lineage, run_id: str) -> pa.Table:
    """The clip rows of `units`, sorted by video URI and clip index.

    User attributes become string columns; a clip without one of them has null there.

    Raises:
        DatasetError: An attribute's name cannot be a column, or a clip's tokens do not fit the
            lineage.
    """
    clips = [clip for unit in units for clip in unit.clips]
    clips.sort(key=lambda clip: (clip.unit.uri, clip.window.clip_index))
    for clip in clips:
        check_tokens(clip, lineage)
    names = dict.fromkeys(name for clip in clips for name in clip.unit.attributes)
    schema = with_attributes(names)
    columns = _clip_columns(clips, lineage, run_id)
    arrays = [
        columns[field.name] if field.name in columns else _attribute(clips, field.name)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def quarantine_rows(units: Iterable[CompletedUnit], run_id: str) -> pa.Table:
    """The quarantine rows of `units`, sorted by video URI; the time is now, in UTC."""
    now = datetime.now(UTC)
    rows = [
        {
            "video_id": unit.unit.video_id,
            "video_uri": unit.unit.uri,
            "video_fingerprint": unit.unit.fingerprint,
            "stage": unit.quarantine.stage,
            "reason": unit.quarantine.reason.value,
            "error_class": unit.quarantine.error_class,
            "message": unit.quarantine.message,
            "attempts": unit.quarantine.attempts,
            "quarantined_at": now,
            "run_id": run_id,
        }
        for unit in sorted(units, key=lambda unit: unit.unit.uri)
        if unit.quarantine is not None
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA)


def check_tokens(clip: TokenizedClip, lineage: Lineage) -> None:
    """Refuses a clip whose tokens the lineage's tokenizer cannot have made.

    Raises:
        DatasetError: The number of tokens or of frames, or an id, does not fit the lineage.
    """
    frames = len(clip.window.frame_indices)
    if frames != lineage.geometry.num_frames:
        raise DatasetError(
            f"clip {clip.window.clip_index} of {clip.unit.uri} has {frames} frames, the dataset's "
            f"lineage asks for {lineage.geometry.num_frames}"
        )
    for kind, tokens, count, words in (
        ("spatial", clip.spatial_tokens, lineage.num_spatial_tokens, lineage.num_spatial_words),
        ("temporal", clip.temporal_tokens, lineage.num_temporal_tokens, lineage.num_temporal_words),
    ):
        if tokens.shape != (count,) or tokens.dtype != np.int16:
            raise DatasetError(
                f"clip {clip.window.clip_index} of {clip.unit.uri} has {kind} tokens "
                f"{tokens.dtype}{list(tokens.shape)}, the dataset's lineage asks for int16[{count}]"
            )
        if count and (tokens.min() < 0 or tokens.max() >= words):
            raise DatasetError(
                f"clip {clip.window.clip_index} of {clip.unit.uri} has {kind} ids in "
                f"[{tokens.min()}, {tokens.max()}], the codebook has {words} words"
            )


def _clip_columns(
    clips: Sequence[TokenizedClip], lineage: Lineage, run_id: str
) -> dict[str, pa.Array]:
    geometry = lineage.geometry
    values: dict[str, list[Any]] = {
        "clip_id": [clip.clip_id for clip in clips],
        "video_id": [clip.unit.video_id for clip in clips],
        "video_uri": [clip.unit.uri for clip in clips],
        "video_fingerprint": [clip.unit.fingerprint for clip in clips],
        "clip_index": [clip.window.clip_index for clip in clips],
        "start_s": [clip.window.start_s for clip in clips],
        "end_s": [clip.window.end_s for clip in clips],
        "num_padded_frames": [clip.window.num_padded_frames for clip in clips],
        "num_frames": [geometry.num_frames] * len(clips),
        "height_px": [geometry.height_px] * len(clips),
        "width_px": [geometry.width_px] * len(clips),
        "source_width_px": [clip.source.width_px for clip in clips],
        "source_height_px": [clip.source.height_px for clip in clips],
        "source_fps": [clip.source.fps for clip in clips],
        "source_codec": [clip.source.codec for clip in clips],
        "decoder": [clip.source.decoder for clip in clips],
        "psnr_db": [clip.psnr_db for clip in clips],
        "run_id": [run_id] * len(clips),
    }
    columns = {
        name: pa.array(column, TOKEN_SCHEMA.field(name).type) for name, column in values.items()
    }
    frames = [np.asarray(clip.window.frame_indices, np.int32) for clip in clips]
    columns["frame_indices"] = _lists(frames, "frame_indices")
    columns["spatial_tokens"] = _lists([clip.spatial_tokens for clip in clips], "spatial_tokens")
    columns["temporal_tokens"] = _lists([clip.temporal_tokens for clip in clips], "temporal_tokens")
    return columns


def _lists(arrays: Sequence[np.ndarray], name: str) -> pa.ListArray:
    kind = TOKEN_SCHEMA.field(name).type
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    flat = np.concatenate(arrays) if arrays else np.empty(0, kind.value_type.to_pandas_dtype())
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, kind.value_type), type=kind)


def _attribute(clips: Sequence[TokenizedClip], name: str) -> pa.Array:
    return pa.array([clip.unit.attributes.get(name) for clip in clips], pa.string())
