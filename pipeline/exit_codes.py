"""What a job's exit code says: the one list of them, for `--help`, schedulers and the code."""

from __future__ import annotations

from enum import IntEnum

from pipeline.errors import (
    DatasetBusyError,
    LineageError,
    QuarantineLimitError,
    SourceError,
    StalledError,
)
from sweettok.errors import ConfigError


class ExitCode(IntEnum):
    """Exit codes of all jobs; schedulers are set up by them, so none is ever renumbered.

    Attributes:
        meaning: What it says, for people.
    """

    meaning: str

    def __new__(cls, code: int, meaning: str) -> ExitCode:
        """A member with its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "done"
    FAILED = 1, "failed"
    USAGE = 2, "wrong arguments or configuration"
    LINEAGE = 3, "the dataset belongs to another tokenizer"
    QUARANTINE = 4, "more videos were quarantined than allowed; what is finished is committed"
    BUSY = 5, "another refresh of the dataset is under way"
    SOURCE = 6, "the source cannot be listed, or is not the one that was meant"
    STALLED = 7, "nothing finished for too long; what is finished is committed"
    INTERRUPTED = 130, "interrupted (Ctrl-C, SIGTERM); the same command continues"

    @classmethod
    def of(cls, error: Exception) -> ExitCode:
        """The code of a job that ends with this error."""
        return next((code for kind, code in _CODES if isinstance(error, kind)), cls.FAILED)


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (ConfigError, ExitCode.USAGE),
    (LineageError, ExitCode.LINEAGE),
    (QuarantineLimitError, ExitCode.QUARANTINE),
    (DatasetBusyError, ExitCode.BUSY),
    (SourceError, ExitCode.SOURCE),
    (StalledError, ExitCode.STALLED),
)


def exit_code_lines() -> list[str]:
    """One line for each code, for `--help`."""
    return [f"{code.value:>5}  {code.meaning}" for code in ExitCode]
