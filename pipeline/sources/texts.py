"""The user's values as the texts that the dataset's columns hold."""

from __future__ import annotations

import json
from typing import Any


def attribute_text(value: Any) -> str | None:
    """A text as it is, a missing value (None or NaN) as None, and anything else as JSON writes it.

    So 1, true and [2] stay themselves. JSON has no NaN: within a list or an object it is null.
    """
    value = _without_nan(value)
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    return value
