"""What a clip costs in core seconds and GPU seconds, as `jobs/bench_pipeline.py` measured it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

_MADE_UP_FRAMES, _NO_MODEL = "synthetic_frames", "null_encoder"


@dataclass(frozen=True)
class StageCosts:
    """What one clip costs each stage.

    Attributes:
        decode_core_s: Seconds of one core for decoding it.
        encode_core_s: Seconds of one core for encoding it; with a GPU, what its host does.
        encode_gpu_s: Seconds of one whole GPU for encoding it; 0 if encoders compute on CPUs.
        other_core_s: Seconds of one core for everything between and after the stages.
        clip_bytes: Bytes of the clip's pixels; 0 if unknown.
    """

    decode_core_s: float
    encode_core_s: float
    encode_gpu_s: float = 0.0
    other_core_s: float = 0.0
    clip_bytes: int = 0

    @property
    def core_s(self) -> float:
        """Seconds of one core in all."""
        return self.decode_core_s + self.encode_core_s + self.other_core_s

    @property
    def cores_per_gpu(self) -> float:
        """CPU cores that keep one GPU busy; NaN if encoders compute on CPUs."""
        return self.core_s / self.encode_gpu_s if self.encode_gpu_s else float("nan")


def read_costs(paths: Sequence[str | Path]) -> StageCosts:
    """The costs in results of `jobs/bench_pipeline.py`.

    Decoding and encoding may have been measured on different machines: decoding is read from the
    first result whose frames were decoded, encoding from the first one that had a model.

    Raises:
        PipelineError: A file is no such result, or one of the two was never measured.
    """
    results = [_read(Path(path)) for path in paths]
    decoded = _first(results, _MADE_UP_FRAMES, "decoding", "mode=null_encoder")
    encoded = _first(results, _NO_MODEL, "encoding", "mode=synthetic_frames")
    decode_s = _median(decoded, "decode", "cpu_s_per_clip")
    encode_s = _median(encoded, "encode", "cpu_s_per_clip")
    whole_s = _median(encoded, "pipeline", "cpu_s_per_clip")
    alone_s = _median(encoded, "decode", "cpu_s_per_clip") + encode_s
    return StageCosts(
        decode_core_s=decode_s,
        encode_core_s=encode_s,
        encode_gpu_s=_gpu_s(encoded),
        other_core_s=max(0.0, whole_s - alone_s),
        clip_bytes=encoded["clip"]["pixel_bytes"],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
        is_result = {"rounds", "config", "clip"} <= values.keys() and len(values["rounds"]) > 0
    except FileNotFoundError:
        raise PipelineError(
            f"{path} does not exist; measure with jobs/bench_pipeline.py, whose `output` it is"
        ) from None
    except (ValueError, AttributeError):
        is_result = False
    if not is_result:
        raise PipelineError(
            f"{path} is no result of this version of jobs/bench_pipeline.py; measure again"
        )
    return values


def _first(
    results: Sequence[dict[str, Any]], without: str, what: str, remedy: str
) -> dict[str, Any]:
    for result in results:
        if result["config"]["mode"] != without:
            return result
    raise PipelineError(
        f"none of the results measured {what} (all are of mode {without!r}); add one, for example "
        f"of jobs/bench_pipeline.py --set {remedy}"
    )


def _gpu_s(result: Mapping[str, Any]) -> float:
    """GPU seconds per clip of encoding alone, in a process that had a GPU to itself."""
    if not _median(result, "encode", "num_gpus"):
        return 0.0
    return 1.0 / _median(result, "encode", "clips_per_s")


def _median(result: Mapping[str, Any], side: str, name: str) -> float:
    return float(statistics.median(figures[side][name] for figures in result["rounds"]))
