"""Lets the reference know that "height_px, width_px: Frame size." describes two things.

An extension of Griffe, which reads the docstrings; it knows one name per entry only.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ENTRY = re.compile(r"^( {4})(\w+(?:, \w+)+)(: .*(?:\n {5,}.*)*)", re.MULTILINE)


class SeveralNames(griffe.Extension):
    """Gives each of the names an entry of its own."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by Griffe for everything that has a docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ENTRY.sub(_one_each, obj.docstring.value)


def _one_each(entry: re.Match[str]) -> str:
    return "\n".join(f"{entry[1]}{name}{entry[3]}" for name in entry[2].split(", "))
