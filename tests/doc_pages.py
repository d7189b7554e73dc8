"""What the documentation's pages hold for a machine: code blocks, command lines, names of files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.job_runs import REPOSITORY

PAGES = (
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
)
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?<![\w/.])(?:configs|docs|jobs|pipeline|sweettok|tests)/[\w./*-]*[\w*]")
_SHELL = ("", "bash")
_ABBREVIATED = "… "


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page's file.
        line: Where it begins.
        language: As the fence says; empty if it does not.
        text: What is between the fences.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A job's command line.

    Attributes:
        where: Page and line of the block.
        job: The script's name, without folder and suffix.
        arguments: What follows the script.
    """

    where: str
    job: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where} {self.job} {' '.join(self.arguments)}"


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    ]


def blocks_in(language: str) -> list[Block]:
    """Those of all pages that are in a language."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def commands() -> Iterator[Command]:
    """Every job's command line on the pages.

    A line that begins with "…" is the page's first command with these arguments added.
    """
    for page in PAGES:
        first: Command | None = None
        for block in blocks(page):
            if block.language not in _SHELL:
                continue
            for line in block.text.replace("\\\n", " ").splitlines():
                found = _command(line, str(block), first)
                first = first or found
                if found is not None:
                    yield found


def _command(line: str, where: str, first: Command | None) -> Command | None:
    if line.startswith(_ABBREVIATED):
        assert first is not None, f"{where}: what does … stand for?"
        more = shlex.split(line.removeprefix(_ABBREVIATED), comments=True)
        return Command(where, first.job, (*first.arguments, *more))
    script = re.search(r"\bpython (?:/app/)?jobs/(\w+)\.py\b", line)
    if script is None:
        return None
    rest = line[script.end() :]
    if line[: script.start()].endswith("$("):
        rest = rest.partition(")")[0]
    arguments = tuple(shlex.split(rest, comments=True))
    return Command(where, script[1], arguments)


def named_paths(page: Path) -> set[str]:
    """Files and folders of the repository that a page names, patterns among them."""
    text = page.read_text(encoding="utf-8")
    return {match[0] for match in _PATH.finditer(text) if text[match.end()] != "…"}
