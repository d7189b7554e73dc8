"""In which settings two nested records of a run differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted path; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def setting_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """One indented line for every setting in which `found` is not as `wanted`."""
    there, now = flattened(found), flattened(wanted)
    return "\n".join(
        f"  {name}: {there.get(name)!r} there, {now.get(name)!r} now"
        for name in dict.fromkeys([*there, *now])
        if there.get(name) != now.get(name)
    )
