"""Strict, typed, frozen configuration: one readable YAML per run, no key that nothing reads.

A component declares its settings as a subclass of `StrictConfig` in its own module. `load_config`
reads a YAML file into such a class, applies `a.b=value` overrides, and turns every fault into one
`ConfigError` that names the file, the dotted path, the value and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_origin

import pydantic
import pydantic_core
import yaml

from sweettok.errors import ConfigError
from sweettok.uri_secrets import is_secret_name, secret_in_uri

_LONGEST_SHOWN_VALUE = 80
_LARGEST_INTEGER = 2**63 - 1

ConfigT = TypeVar("ConfigT", bound="StrictConfig")


class StrictConfig(pydantic.BaseModel):
    """Base of all configuration objects: frozen, unknown keys refused, no NaN or infinity.

    Truth values are no numbers, integers fit into 64 bits, and a URI that carries credentials is
    refused: a configuration is stored beside every output.
    """

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _refuse_what_is_never_right(cls, value: Any, field: pydantic.ValidationInfo) -> Any:
        annotation = cls.model_fields[str(field.field_name)].annotation
        for one in _values(value, annotation):
            if isinstance(one, bool):
                if not _may_be_truth_value(annotation):
                    raise ValueError(f"must not be a truth value; {str(one).lower()!r} is one")
            elif isinstance(one, int) and abs(one) > _LARGEST_INTEGER:
                raise ValueError(f"must lie within ±{_LARGEST_INTEGER}")
            elif isinstance(one, str) and (secret := secret_in_uri(one)):
                raise ValueError(
                    f"carries {secret}; give credentials through the environment "
                    "(a configuration is stored beside every output)"
                )
        return value

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, origin: str = "") -> Self:
        """Builds the config from plain values; raises `ConfigError` naming `origin` and path.

        Without an `origin` the message begins with the path, for a caller to put its own before.
        """
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            raise ConfigError(_readable(cls, error, origin)) from None

    def to_mapping(self) -> dict[str, Any]:
        """The complete configuration as plain values (the inverse of `from_mapping`)."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The complete configuration as YAML text, keys in declaration order."""
        return yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True)


def load_config(
    config_class: type[ConfigT], path: str | Path, overrides: Iterable[str] = ()
) -> ConfigT:
    """Reads `path` into `config_class`, `overrides` ("a.b=value", value in YAML) applied on top.

    Raises:
        ConfigError: The file is missing or no mapping, a key is unknown, a value has a wrong type.
    """
    path = Path(path)
    try:
        values = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give --config FILE"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML: {reason}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold a mapping of keys, found {type(values).__name__}")
    for override in overrides:
        _apply_override(config_class, values, override)
    return config_class.from_mapping(values, origin=str(path))


def _apply_override(cls: type[StrictConfig], values: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError(f"--set {override!r}: write it as a.b=value")
    node = values
    found: Sequence[Any] = (cls,)
    for key in keys[:-1]:
        child = node.get(key)
        if child is None:
            if node and any(map(_has_free_names, found)):
                raise ConfigError(
                    f"--set {override!r}: there is no {key!r}, only {', '.join(map(str, node))}; "
                    "give a further one whole, as a.b={key: value, …}"
                )
            child = node[key] = {}
        found = [below for annotation in found for below in _below(annotation, key)]
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override!r}: {key!r} holds a value, not a section")
        node = child
    try:
        node[keys[-1]] = _parse(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: {text!r} is not a YAML value") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML whose mappings have each key once; the plain loader lets the last one win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


def _parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: It is none, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_UniqueKeyLoader)


def _readable(cls: type[StrictConfig], error: pydantic.ValidationError, origin: str) -> str:
    lines = []
    for item in error.errors():
        dotted = ".".join(str(part) for part in item["loc"])
        lines.append(": ".join(part for part in (origin, dotted, _fault(cls, item)) if part))
    return "\n".join(lines)


def _fault(cls: type[StrictConfig], item: pydantic_core.ErrorDetails) -> str:
    """What is wrong, in the words of whoever writes the YAML."""
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        return f"unknown key{_suggestion(cls, item['loc'])}"
    if kind == "missing":
        return "required, but not given"
    if kind in ("tuple_type", "list_type"):
        message = "must be a list"
        if isinstance(value, str | int | float) and _shown_value(item):
            message += f"; write [{value}]"
    elif kind in ("dict_type", "mapping_type", "model_type", "model_attributes_type"):
        message = "must be a section of keys and values; write them below it, indented"
    else:
        message = item["msg"].removeprefix("Value error, ")
    return message + _shown_value(item)


def _shown_value(item: pydantic_core.ErrorDetails) -> str:
    """The refused value, unless it is long, a whole section, or could be a secret."""
    name = str(item["loc"][-1]) if item["loc"] else ""
    value = item["input"]
    if is_secret_name(name) or isinstance(value, dict | list):
        return ""
    if isinstance(value, str) and secret_in_uri(value):
        return ""
    shown = repr(value)
    return f" (got {shown})" if len(shown) <= _LONGEST_SHOWN_VALUE else ""


def _suggestion(cls: type[StrictConfig], location: tuple[int | str, ...]) -> str:
    found: Sequence[Any] = (cls,)
    for part in location[:-1]:
        found = [below for annotation in found for below in _below(annotation, str(part))]
    sections = [section for annotation in found for section in _sections(annotation)]
    known = list(dict.fromkeys(key for section in sections for key in section.model_fields))
    if not known:
        return ""
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (known here: {', '.join(known)})"


def _below(annotation: Any, name: str) -> list[Any]:
    """The types that a value of this type may hold under `name`: a key, or a position in a list."""
    if _is_section(annotation):
        field = annotation.model_fields.get(name)
        # In a union pydantic puts the name of the class tried into the path.
        own = [annotation] if annotation.__name__ == name else []
        return own if field is None else [field.annotation]
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if any(isinstance(part, pydantic.Tag) and part.tag == name for part in arguments[1:]):
        return [arguments[0]]  # in a union told by a key, pydantic puts that key's value there
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return list(arguments[1:])
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return list(arguments)
    return [below for argument in arguments for below in _below(argument, name)]


def _has_free_names(annotation: Any) -> bool:
    """Whether the entries of a type are named by whoever writes the YAML."""
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return True
    return any(_has_free_names(argument) for argument in get_args(annotation))


def _values(value: Any, annotation: Any) -> Iterable[Any]:
    """A value, or those of a list or free mapping; a section looks at its own."""
    if isinstance(value, dict):
        return value.values() if _has_free_names(annotation) else ()
    return value if isinstance(value, list | tuple) else [value]


def _may_be_truth_value(annotation: Any) -> bool:
    """Whether a type, or what it is made of, has a place for true and false."""
    if annotation in (bool, Any):
        return True
    return any(map(_may_be_truth_value, get_args(annotation)))


def _sections(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The sections among the alternatives of a type."""
    if _is_section(annotation):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel)
