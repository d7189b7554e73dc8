"""Where the scaling benchmarks leave what they found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from pipeline.whole_files import replace_file


class Report(Protocol):
    """What a benchmark found."""

    def to_json_values(self) -> dict[str, Any]:
        """Plain values."""

    def picture(self) -> Image.Image:
        """The same, drawn."""


def write_report(report: Report, output: str, picture: str) -> None:
    """Writes the JSON file `output` and the picture beside it."""
    content = json.dumps(report.to_json_values(), indent=2) + "\n"
    replace_file(Path(output), content.encode())
    path = Path(picture)
    path.parent.mkdir(parents=True, exist_ok=True)
    report.picture().save(path)
