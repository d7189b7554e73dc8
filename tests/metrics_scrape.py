"""What Prometheus would read from the nodes of a running Ray."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import dataclass
from pathlib import Path

SERVICE_DISCOVERY = "prom_metrics_service_discovery.json"
_SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Sample:
    """One line of an endpoint."""

    name: str
    labels: dict[str, str]
    value: float


def targets(session: Path) -> list[str]:
    """ "host:port" of every endpoint that Ray's file for Prometheus names."""
    groups = json.loads((session / SERVICE_DISCOVERY).read_text())
    return [target for group in groups for target in group["targets"]]


def scrape(target: str) -> list[Sample]:
    """All samples of one endpoint."""
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    found = [_SAMPLE.match(line) for line in lines if not line.startswith("#")]
    return [
        Sample(match[1], dict(_LABEL.findall(match[2] or "")), float(match[3]))
        for match in found
        if match
    ]


def samples_of(session: Path, dataset: str) -> list[Sample]:
    """Our samples of one dataset at all endpoints."""
    return [
        sample
        for target in targets(session)
        for sample in scrape(target)
        if sample.name.startswith("ray_sweettok_") and sample.labels["dataset"] == dataset
    ]


def total(samples: list[Sample], name: str, **labels: str) -> float:
    """The sum of a metric over processes, with these labels."""
    return sum(
        sample.value
        for sample in samples
        if sample.name == f"ray_sweettok_{name}" and labels.items() <= sample.labels.items()
    )
