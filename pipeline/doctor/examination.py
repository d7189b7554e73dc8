"""All of the doctor's looks at what a run with this config would meet (`jobs/doctor.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.doctor.finding import Finding, guarded
from pipeline.doctor.machine import look_at_arithmetic, look_at_packages, look_at_resources
from pipeline.doctor.places import look_at_dataset, look_at_source, look_at_tokenizer
from pipeline.doctor.ray_resources import look_at_cluster
from pipeline.doctor.video import look_at_codecs, look_at_decoders
from pipeline.errors import PipelineError
from pipeline.refresh import RefreshConfig
from pipeline.wording import counted

_REACH = "correct the setting that the message names, or give this user the rights it lacks"


class DoctorConfig(RefreshConfig):
    """One run of `jobs/doctor.py`: the config of the run that is to work, and how to report.

    Attributes:
        report: "text" for people, "json" for machines.
        check_cluster: Whether to connect to Ray, or start it, which takes some seconds.
    """

    report: Literal["text", "json"] = "text"
    check_cluster: bool = True


@dataclass(frozen=True)
class Examination:
    """What the doctor found.

    Attributes:
        findings: One for each part, in the order in which they were looked at.
    """

    findings: tuple[Finding, ...]

    @property
    def num_failed(self) -> int:
        """Parts that keep a run from working."""
        return sum(finding.grade == "failed" for finding in self.findings)

    def text(self) -> str:
        """The report for people."""
        return "\n".join(line for finding in self.findings for line in finding.lines())

    def to_json(self) -> str:
        """The report for machines: a list of findings."""
        return json.dumps([asdict(finding) for finding in self.findings], indent=2)

    def check(self) -> None:
        """Raises if a run would not work.

        Raises:
            PipelineError: With the number of parts that failed.
        """
        if self.num_failed:
            parts = counted(len(self.findings), "part")
            raise PipelineError(f"{self.num_failed} of {parts} failed, see above for the remedies")


def examine(config: DoctorConfig) -> Examination:
    """Looks at every part; what fails does not keep the next from being looked at."""
    looks: list[tuple[str, Callable[[], Iterable[Finding]], str]] = [
        (
            "packages",
            look_at_packages,
            "install the project: `pip install -e . -c constraints.txt`",
        ),
        ("machine", look_at_resources, _REACH),
        ("GPU", lambda: look_at_arithmetic(config.encode), "mend the installation of torch"),
        ("decoders", lambda: look_at_decoders(config.decode), "mend the installation of PyAV"),
        ("codecs", look_at_codecs, "mend the installation of PyAV"),
        ("tokenizer", lambda: look_at_tokenizer(config), "give its directory as tokenizer"),
        ("source", lambda: look_at_source(config.source), _REACH),
        ("dataset", lambda: look_at_dataset(config), _REACH),
    ]
    if config.check_cluster:
        cluster, encode, engine = config.cluster, config.encode, config.engine
        looks.append(("Ray", lambda: look_at_cluster(cluster, encode, engine), _REACH))
    found = [finding for part, look, remedy in looks for finding in guarded(part, look, remedy)]
    return Examination(tuple(found))
