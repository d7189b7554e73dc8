"""The summary that a run ends with in the terminal: a box of labels and values, plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

WIDTH_COLUMNS = 78
MAX_LABEL_COLUMNS = 32
ELLIPSIS = "…"


def format_summary(rows: Sequence[tuple[str, str]], title: str) -> str:
    """Lays rows out as an aligned box.

    Args:
        rows: Labels and values, in order; a long value continues on the next line.
        title: Shown in the box's upper edge.

    Returns:
        Lines of at most 78 terminal columns without a final newline. Control characters, colour
        codes among them, are replaced: values may hold file names.
    """
    clean = [(_printable(label), _printable(value)) for label, value in rows]
    label_columns = min(
        MAX_LABEL_COLUMNS, max((_num_columns(label) for label, _ in clean), default=0)
    )
    value_columns = WIDTH_COLUMNS - label_columns - len("│   │") - 1
    lines = [
        f"{_padded(_shortened(label, label_columns) if first else '', label_columns)}  {part}"
        for label, value in clean
        for first, part in _numbered(_wrapped(value, value_columns))
    ]
    heading = _shortened(_printable(title), WIDTH_COLUMNS - len("╭─  ─╮"))
    inner = max([_num_columns(heading) + 2, *map(_num_columns, lines)])
    edge = "─" * (inner - _num_columns(heading) - 1)
    return "\n".join(
        [
            f"╭─ {heading} {edge}╮",
            *(f"│ {_padded(line, inner)} │" for line in lines),
            f"╰{'─' * (inner + 2)}╯",
        ]
    )


def _numbered(parts: list[str]) -> Iterator[tuple[bool, str]]:
    return ((index == 0, part) for index, part in enumerate(parts))


def _printable(text: str) -> str:
    """The text on one line, every character without a printed form as U+FFFD."""
    spaced = " ".join(text.split())
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in spaced
    )


def _num_columns(text: str) -> int:
    """Terminal columns: wide East Asian characters take two, combining marks none."""
    return sum(
        0
        if unicodedata.combining(character)
        else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - _num_columns(text))


def _shortened(text: str, columns: int) -> str:
    if _num_columns(text) <= columns:
        return text
    return _head(text, columns - len(ELLIPSIS)).rstrip() + ELLIPSIS


def _head(text: str, columns: int) -> str:
    """The longest beginning of `text` that fits into `columns`."""
    end = len(text)
    while _num_columns(text[:end]) > columns:
        end -= 1
    return text[:end]


def _wrapped(text: str, columns: int) -> list[str]:
    """Lines of at most `columns`, broken at spaces, inside a word only if it fills a line."""
    lines = []
    while _num_columns(text) > columns:
        head = _head(text, columns)
        at_space = head.rfind(" ") if text[len(head)] != " " else len(head)
        cut = at_space if at_space > 0 else len(head)
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]
