"""The errors of the pipeline, in three kinds.

* `RecordError`: the fault of one video. It becomes a quarantine row and never ends a job.
* `TransientError`: may go away by itself. It is retried a bounded number of times.
* every other `PipelineError`: stops the job with one readable line.
"""

from enum import StrEnum


class PipelineError(Exception):
    """Base of every error that `pipeline` raises on purpose; the job ends with its message."""


class SourceError(PipelineError):
    """The corpus cannot be listed: a root does not exist, a scheme is unknown, nothing matches."""


class SourceChangedError(SourceError):
    """A video is no longer in the state that its tokens were made from."""


class DatasetError(PipelineError):
    """A token dataset is missing, damaged or cannot be written."""


class LineageError(DatasetError):
    """A dataset was written by another tokenizer than the one that wants to append to it."""


class DatasetBusyError(DatasetError):
    """Another refresh holds the dataset, or has taken it over."""


class QuarantineLimitError(PipelineError):
    """More videos were quarantined than a setting allows; what is finished is committed."""


class StalledError(PipelineError):
    """A run finished nothing for longer than a setting allows; what is finished is committed."""


class TransientError(PipelineError):
    """A failure that a bounded retry may cure: a reset connection, a throttled store."""


class QuarantineReason(StrEnum):
    """Why a listed input gave no clip. The values are stored in the dataset; never rename one."""

    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    EMPTY = "empty"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO_STREAM = "no_video_stream"
    TRUNCATED = "truncated"
    UNDECODABLE = "undecodable"
    TOO_SHORT = "too_short"
    TOO_LARGE = "too_large"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    DECODER_CRASH = "decoder_crash"
    READ_ERROR = "read_error"
    TAKEN_DOWN = "taken_down"
    BAD_METADATA = "bad_metadata"


class RecordError(PipelineError):
    """One input's own fault.

    Attributes:
        reason: The typed reason that the quarantine row carries.
        stage: The stage that found it: "read", "decode" or "cut".
    """

    def __init__(self, reason: QuarantineReason, message: str, *, stage: str = "decode") -> None:
        super().__init__(message)
        self.reason = reason
        self.stage = stage

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_record_error, (self.reason, str(self), self.stage))


def _rebuild_record_error(reason: QuarantineReason, message: str, stage: str) -> RecordError:
    return RecordError(reason, message, stage=stage)
