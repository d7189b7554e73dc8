"""One line of the doctor's report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pipeline.errors import PipelineError
from sweettok.errors import SweetTokError

Grade: TypeAlias = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Attributes:
        part: What was looked at.
        grade: "ok"; "warning" where a run works, but not as well as it could; "failed" where it
            does not.
        detail: How it is.
        remedy: What to do; empty if all is well.
    """

    part: str
    grade: Grade
    detail: str
    remedy: str = ""

    def lines(self) -> list[str]:
        """The finding for people."""
        first = f"{self.grade:8} {self.part}: {self.detail}"
        return [first, f"{'':8} → {self.remedy}"] if self.remedy else [first]


def ok(part: str, detail: str) -> Finding:
    """All is well."""
    return Finding(part, "ok", detail)


def guarded(part: str, look: Callable[[], Iterable[Finding]], remedy: str) -> Iterator[Finding]:
    """What `look` finds; its own failure is a finding too, and the next part is looked at."""
    try:
        yield from look()
    except (PipelineError, SweetTokError, OSError, ImportError) as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        yield Finding(part, "failed", detail, remedy)
