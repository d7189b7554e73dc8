"""The rows of the comparison: a variant by name, or one with other model settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pydantic

from sweettok import SweetTokConfig
from sweettok.baselines import VARIANTS
from sweettok.strict_config import StrictConfig

REFERENCE_ROW = "decoupled"
_VARIANT_NAMES = {
    "decoupled": "decoupled queries (the method)",
    "flattened": "flattened queries",
    "flattened_global": "flattened queries, global",
    "patch": "plain patch quantisation",
    "words_without_graph": "words without graph",
    "plain_language": "plain language codebook",
    "learned_codebook": "learned codebook",
}


class RowConfig(StrictConfig):
    """One row; a variant's name alone stands for that variant with the common settings.

    Attributes:
        name: What the table calls it.
        variant: One of `sweettok.baselines.VARIANTS`.
        model: Settings that differ from the comparison's `model`, nested as there.
    """

    name: str = pydantic.Field(min_length=1)
    variant: str
    model: dict[str, Any] = pydantic.Field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _variant_alone(cls, value: Any) -> Any:
        return {"name": value, "variant": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _known_variant(self) -> RowConfig:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"variant must be one of {', '.join(VARIANTS)} (got {self.variant!r}); write a row "
                "as such a name or as {name: …, variant: …, model: {…}}"
            )
        return self

    @property
    def label(self) -> str:
        """The name for people."""
        return _VARIANT_NAMES.get(self.name, self.name)

    @property
    def slug(self) -> str:
        """The name for directories."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")

    def applied_to(self, model: SweetTokConfig) -> SweetTokConfig:
        """`model` with the row's own settings.

        Raises:
            ConfigError: The two do not fit together.
        """
        if not self.model:
            return model
        merged = _merged(model.to_mapping(), self.model)
        return SweetTokConfig.from_mapping(merged, origin=f"rows: {self.name}: model")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section."""
    merged = dict(below)
    for name, value in above.items():
        found = merged.get(name)
        if isinstance(found, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(found, value)
        else:
            merged[name] = value
    return merged
