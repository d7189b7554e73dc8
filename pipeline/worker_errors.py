"""What Ray raises, as our own errors: what went wrong, without its wrapping, and what to do."""

from __future__ import annotations

import ray.exceptions

from pipeline.errors import PipelineError

_LOSSES = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.WorkerCrashedError,
)


def as_pipeline_error(error: BaseException) -> PipelineError:
    """What went wrong in a worker: our own error, or its last line."""
    error = _cause(error)
    if isinstance(error, PipelineError):
        return error
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [""]
    return PipelineError(f"{type(error).__name__}: {lines[-1].strip()}")


def is_loss(error: BaseException) -> bool:
    """Whether a process, a node or an object of the cluster was lost: nothing that we raised."""
    error = _cause(error)
    return isinstance(error, _LOSSES) and not getattr(error, "actor_init_failed", False)


def loss(error: BaseException) -> str:
    """What was lost, in one line for people."""
    error = _cause(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0]}" if lines else kind


def _cause(error: BaseException) -> BaseException:
    while isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        error = error.cause
    return error
