"""What made the tokens: the identity that every row of one dataset shares.

Two runs may write into the same dataset only if the same pixels give the same ids in both. The
fields that decide this are hashed into a fingerprint; versions of libraries are recorded beside
them but are no part of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipeline.errors import DatasetError
from pipeline.setting_differences import flattened
from sweettok.geometry import ClipGeometry

Plain: TypeAlias = str | int | float | bool | list[Any] | dict[str, Any] | None
"""A value that JSON can hold."""


@dataclass(frozen=True)
class Lineage:
    """The identity of a dataset's tokens.

    Attributes:
        weights_hash: Hash of the tokenizer's weights and configuration.
        codebook_hash: Hash of the lexicon that the two codebooks are made of.
        geometry: Size of the clips that the tokenizer takes.
        num_spatial_tokens, num_temporal_tokens: Tokens per clip.
        num_spatial_words, num_temporal_words: Codebook sizes; ids are in [0, size).
        preprocessing: How decoded frames become the encoder's input (resize, value range …).
        clip_policy: Which frames of a video become clips (rate, stride, padding …).
        decoder: The decoders that may read a video, in the order they are tried.
        precision: Numeric precision of the encoder; a near tie may flip between precisions.
        versions: Library versions of the run that created the dataset; not part of the identity.
    """

    weights_hash: str
    codebook_hash: str
    geometry: ClipGeometry
    num_spatial_tokens: int
    num_temporal_tokens: int
    num_spatial_words: int
    num_temporal_words: int
    preprocessing: Mapping[str, Plain]
    clip_policy: Mapping[str, Plain]
    decoder: str
    precision: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Plain]:
        """The fields that decide which ids a clip gets, as plain values."""
        values = self._plain()
        del values["versions"]
        return values

    @property
    def fingerprint(self) -> str:
        """Hash of the identity: 32 hexadecimal digits."""
        text = json.dumps(self.identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def difference(self, other: Lineage) -> list[str]:
        """One line "field: ours → theirs" per identity field in which `other` differs."""
        ours, theirs = flattened(self.identity), flattened(other.identity)
        return [
            f"{name}: {_shown(ours, name)} → {_shown(theirs, name)}"
            for name in dict.fromkeys([*ours, *theirs])
            if _shown(ours, name) != _shown(theirs, name)
        ]

    def to_json(self) -> str:
        """The complete lineage as one line of JSON (the inverse of `from_json`)."""
        return json.dumps(self._plain(), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Lineage:
        """Reads what `to_json` wrote.

        Raises:
            DatasetError: The text is no lineage, or one with fields that this version lacks.
        """
        try:
            values = json.loads(text)
            values["geometry"] = ClipGeometry.from_mapping(values["geometry"], origin="lineage")
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"the dataset's lineage cannot be read ({error}); it was written by another "
                "version of sweettok or altered by hand"
            ) from None

    def _plain(self) -> dict[str, Plain]:
        values: dict[str, Plain] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, ClipGeometry):
                value = value.to_mapping()
            values[item.name] = dict(value) if isinstance(value, Mapping) else value
        return values


@dataclass(frozen=True)
class Predecessor:
    """The dataset that another one continues under a lineage of its own.

    Attributes:
        uri: Its root.
        version: Its version at that time.
        fingerprint: Fingerprint of its lineage.
    """

    uri: str
    version: int
    fingerprint: str

    def to_json(self) -> str:
        """One line of JSON (the inverse of `from_json`)."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Predecessor:
        """Reads what `to_json` wrote.

        Raises:
            DatasetError: The text says something else.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise DatasetError(f"the dataset's predecessor cannot be read ({error})") from None


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else "(absent)"
