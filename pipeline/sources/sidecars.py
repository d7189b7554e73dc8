"""The texts beside the videos of a tar shard, sample by sample, and what is wrong with them."""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

from pipeline.dataset.schema import check_attribute_names
from pipeline.errors import DatasetError, QuarantineReason, RecordError, SourceError
from pipeline.records import InputFault
from pipeline.sources.config import ShardConfig
from pipeline.sources.texts import attribute_text

SIDECAR_EXTENSIONS = (".txt", ".json")
_MAX_TEXT_BYTES = 2**20


@dataclass(slots=True)
class _Sample:
    texts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class Sidecars:
    """Gathers the ".json" and ".txt" members of one shard, in whatever order they lie."""

    def __init__(self, shard_uri: str, config: ShardConfig) -> None:
        self._shard_uri = shard_uri
        self._config = config
        self._samples: dict[str, _Sample] = {}

    def add(self, archive: tarfile.TarFile, info: tarfile.TarInfo) -> None:
        """Reads one member; its fault, if it has one, becomes that of its sample.

        Raises:
            SourceError: A name cannot be a column of the dataset, whatever the sample.
            tarfile.TarError: The shard ends within the member.
        """
        where = f"{self._shard_uri}: member {info.name!r}"
        key, kind = sample_key(info.name)
        sample = self._samples.setdefault(key, _Sample())
        try:
            self._merge(sample.texts, self._read(archive, info, kind))
        except RecordError as error:
            sample.faults.append(f"{where} {error}")
        _check_names(where, sample.texts)

    def texts_of(self, name: str) -> dict[str, str]:
        """The attributes of the video that is the member `name`."""
        return self._sample(name).texts

    def fault_of(self, name: str) -> InputFault | None:
        """What is wrong with the texts of that video."""
        faults = self._sample(name).faults
        if not faults:
            return None
        return InputFault(QuarantineReason.BAD_METADATA, "; ".join(faults))

    def _sample(self, name: str) -> _Sample:
        return self._samples.get(sample_key(name)[0]) or _Sample()

    def _read(self, archive: tarfile.TarFile, info: tarfile.TarInfo, kind: str) -> dict[str, str]:
        is_json = kind.endswith("json")
        text_name = kind.removesuffix("txt").rstrip(".") or self._config.text_attribute
        wanted = self._config.attributes
        if wanted is not None and not (wanted if is_json else text_name in wanted):
            return {}
        text = _text(archive, info)
        found = _json_texts(text) if is_json else {text_name: text.strip()}
        return {name: value for name, value in found.items() if wanted is None or name in wanted}

    @staticmethod
    def _merge(texts: dict[str, str], found: dict[str, str]) -> None:
        for name, value in found.items():
            if texts.setdefault(name, value) != value:
                raise _fault(
                    f"has another value for attribute {name!r} than another member of the sample; "
                    "rename one, or set source.shards.text_attribute"
                )


def sample_key(name: str) -> tuple[str, str]:
    """The sample that a member belongs to, and in lower case what follows its first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, kind = base.partition(".")
    return folder + slash + stem, kind.lower()


def storage_fault(info: tarfile.TarInfo) -> str | None:
    """Why a member's bytes do not lie in its shard as they are, with the remedy; None if they do.

    A directory is none of our business.
    """
    if info.issym() or info.islnk():
        return (
            f"is a link to {info.linkname!r}, and a shard must hold the file itself; write it with "
            "`tar --dereference --hard-dereference`"
        )
    if info.issparse():
        return "is a sparse file, not stored as it is; write the shard without `tar --sparse`"
    return None if info.isfile() else "is not a regular file; leave it out of the shard"


def _text(archive: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    if fault := storage_fault(info):
        raise _fault(fault)
    if info.size > _MAX_TEXT_BYTES:
        raise _fault(
            f"has {info.size} bytes, above the limit of {_MAX_TEXT_BYTES} for texts; leave it out "
            "of the shard"
        )
    stream = archive.extractfile(info)
    assert stream is not None, "a regular file has content"
    try:
        return stream.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(f"is not UTF-8 ({error.reason}); convert it") from error


def _json_texts(text: str) -> dict[str, str]:
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _fault(f"is not JSON ({error}); mend it or leave it out") from error
    if not isinstance(values, dict):
        raise _fault("must hold one JSON object; mend it or leave it out")
    named = ((name, attribute_text(value)) for name, value in values.items())
    found = {name: value for name, value in named if value is not None}
    try:
        "".join((*found, *found.values())).encode()
    except UnicodeEncodeError as error:  # JSON can write half a character
        raise _fault(f"holds what is no text ({error.reason}); mend it or leave it out") from error
    return found


def _fault(message: str) -> RecordError:
    return RecordError(QuarantineReason.BAD_METADATA, message, stage="read")


def _check_names(where: str, texts: dict[str, str]) -> None:
    try:
        check_attribute_names(list(texts))
    except DatasetError as error:
        raise SourceError(
            f"{where}: {error}, or name the wanted ones in source.shards.attributes"
        ) from None
