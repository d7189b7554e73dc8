"""The user's values as the texts that the dataset's columns hold."""

from __future__ import annotations

import json
from typing import Any


def attribute_text(value: Any) -> str:
    """A text as it is; anything else as JSON writes it, so that 1, true and [2] stay themselves."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
