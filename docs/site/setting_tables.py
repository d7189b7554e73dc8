"""Tables of settings out of the configuration classes: key, type, default, meaning."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import pydantic
import yaml
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from sweettok.strict_config import StrictConfig

_LONGEST_DEFAULT = 60
_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥"}
_ENTRY = re.compile(r"    (\w+(?:, \w+)*): (.*)")


def setting_table(config_class: type[StrictConfig], sections_page: str) -> str:
    """A Markdown table of a class's keys; sections link to `sections_page`."""
    texts = meanings(config_class)
    rows = [
        f"| `{name}` | {_type(field, sections_page)} | {_default(field)} | {texts[name]} |"
        for name, field in config_class.model_fields.items()
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])


def anchor(config_class: type[StrictConfig]) -> str:
    """Where the class's table is on its page."""
    return f"{config_class.__module__}.{config_class.__name__}".lower().replace(".", "-")


def summary(config_class: type[StrictConfig]) -> str:
    """What the class's docstring says before it comes to the keys."""
    return (inspect.getdoc(config_class) or "").partition("\nAttributes:")[0].strip()


def meanings(config_class: type[StrictConfig]) -> dict[str, str]:
    """What each key means, by the docstrings of the class and of those it is made from.

    Raises:
        ValueError: A key has no meaning.
    """
    found: dict[str, str] = {}
    for cls in reversed(config_class.__mro__):
        if issubclass(cls, StrictConfig):
            found |= attribute_texts(inspect.cleandoc(cls.__doc__ or ""))
    if silent := [name for name in config_class.model_fields if name not in found]:
        raise ValueError(f"{config_class.__name__}: no meaning of {', '.join(silent)}; document it")
    return {name: text.replace("|", r"\|") for name, text in found.items()}


def attribute_texts(docstring: str) -> dict[str, str]:
    """The entries of a Google docstring's `Attributes:`, each name of "a, b: text" by itself."""
    found: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        if line and not line.startswith(" "):
            break
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        else:
            found |= {name: f"{found[name]} {line.strip()}".rstrip() for name in names}
    return found


def sections_below(config_class: type[StrictConfig]) -> list[type[StrictConfig]]:
    """The classes of the settings' own sections, at any depth, each once."""
    found: dict[type[StrictConfig], None] = {}
    pending = [config_class]
    while pending:
        for field in pending.pop().model_fields.values():
            new = [section for section in _sections(field.annotation) if section not in found]
            found |= dict.fromkeys(new)
            pending += new
    return list(found)


def _sections(annotation: Any) -> list[type[StrictConfig]]:
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _type(field: FieldInfo, sections_page: str) -> str:
    bounds = [
        f"{sign} {value:g}"
        for item in field.metadata
        for name, sign in _BOUNDS.items()
        if (value := getattr(item, name, None)) is not None
    ]
    return ", ".join([_shown_type(field.annotation, sections_page), *bounds])


def _shown_type(annotation: Any, page: str) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, StrictConfig):
        return f"[{annotation.__name__}]({page}#{anchor(annotation)})"
    if origin is Annotated:
        return _shown_type(arguments[0], page)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_shown_type(each, page) for each in arguments))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{_shown_type(arguments[1], page)} by name"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _shown_list(arguments, page)
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _shown_list(arguments: Sequence[Any], page: str) -> str:
    if len(arguments) == 1 or arguments[1] is Ellipsis:
        return f"list of {_shown_type(arguments[0], page)}"
    return f"[{', '.join(_shown_type(each, page) for each in arguments)}]"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, pydantic.BaseModel):
        return "its own"
    text = yaml.safe_dump(to_jsonable_python(value), default_flow_style=True, width=10_000)
    text = text.removesuffix("...\n").strip()
    shown = text if len(text) <= _LONGEST_DEFAULT else f"{text[:_LONGEST_DEFAULT]}…"
    return f"`{shown}`".replace("|", r"\|")
