"""What a verification found: one result per check, for people and as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from pipeline.wording import counted

_MAX_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise that is not kept.

    Attributes:
        where: File, row, video or run.
        what: What is wrong, with the values found and expected.
        remedy: What to do about it.
    """

    where: str
    what: str
    remedy: str


@dataclass(slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Name of the check.
        what: What is counted ("file", "row" …).
        num_checked: How many of them were checked.
        num_findings: All findings, those that are not kept included.
        findings: The first findings; at most a thousand are kept.
        notes: What a reader should know although no promise is broken.
    """

    name: str
    what: str
    num_checked: int = 0
    num_findings: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, where: str, what: str, remedy: str) -> None:
        """Counts a finding, and keeps it if few are there yet."""
        self.num_findings += 1
        if len(self.findings) < _MAX_KEPT:
            self.findings.append(Finding(where, what, remedy))

    def merge(self, other: CheckResult) -> None:
        """Adds the counts and findings of `other`, a part of the same check."""
        self.num_checked += other.num_checked
        self.num_findings += other.num_findings
        self.findings.extend(other.findings[: _MAX_KEPT - len(self.findings)])
        self.notes.extend(other.notes)


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What a whole verification found.

    Attributes:
        dataset_uri: Root of the dataset.
        version: Version of the clip table that was checked.
        duration_s: How long it took, in seconds.
        checks: The results, in the order of the table.
    """

    dataset_uri: str
    version: int
    duration_s: float
    checks: tuple[CheckResult, ...]

    @property
    def num_findings(self) -> int:
        """Findings of all checks; 0 for a dataset that keeps its promises."""
        return sum(check.num_findings for check in self.checks)

    def text(self, *, max_shown: int = 20) -> str:
        """Findings, notes and the summary table, at most `max_shown` findings of each check."""
        lines: list[str] = []
        for check in self.checks:
            for finding in check.findings[:max_shown]:
                lines += [
                    f"{check.name}: {finding.where}",
                    f"    {finding.what}",
                    f"    → {finding.remedy}",
                ]
            if check.num_findings > max_shown:
                lines.append(f"{check.name}: … and {check.num_findings - max_shown:,} more")
        lines += [f"note · {check.name}: {note}" for check in self.checks for note in check.notes]
        if lines:
            lines.append("")
        return "\n".join([*lines, *self._table()])

    def to_json(self) -> str:
        """Everything that was kept, as indented JSON."""
        values = dataclasses.asdict(self) | {"num_findings": self.num_findings}
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    def _table(self) -> list[str]:
        rows = [("check", "checked", "findings")]
        rows += [
            (check.name, counted(check.num_checked, check.what), f"{check.num_findings:,}")
            for check in self.checks
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in rows
        ]
        verdict = counted(self.num_findings, "finding") if self.num_findings else "no finding"
        place = f"{self.dataset_uri} version {self.version}"
        return [*lines, f"{place}: {verdict} in {self.duration_s:.1f} s"]
