"""Names for versions that somebody still reads: vacuum leaves the files of a pinned version alone.

A pin is a small file `_pins/<name>.json` in the dataset: which version, since when, until when.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow.fs as pa_fs

from pipeline.dataset.commits import on_newest_state
from pipeline.dataset.side_files import SideFiles, checked_name
from pipeline.dataset.video_table import VideoTable
from pipeline.errors import DatasetError

_FOLDER = "_pins"


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that vacuum must not touch.

    Attributes:
        name: Name of the pin.
        version: Version of the clip table that it holds.
        created_at: When it was set, in UTC.
        expires_at: When it stops protecting the version, in UTC; None for never.
    """

    name: str
    version: int
    created_at: datetime
    expires_at: datetime | None

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    def to_json(self) -> str:
        """What is stored under the pin's name."""
        values = {
            "version": self.version,
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
        }
        return json.dumps(values) + "\n"

    @classmethod
    def from_json(cls, name: str, text: str) -> Pin:
        """Reads what `to_json` wrote.

        Raises:
            DatasetError: The text says something else.
        """
        try:
            values = json.loads(text)
            expires_at = values["expires_at"]
            return cls(
                name,
                int(values["version"]),
                datetime.fromisoformat(values["created_at"]),
                None if expires_at is None else datetime.fromisoformat(expires_at),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{_FOLDER}/{name}.json is no pin ({error!r}); write it again or remove it: until "
                "then nothing can be vacuumed"
            ) from None


class Pins:
    """The pins of one dataset.

    Args:
        clips: The dataset's clip table, at any version.
    """

    def __init__(self, clips: VideoTable) -> None:
        self._clips = clips
        self._files = SideFiles(clips.uri, clips.filesystem)

    def names(self) -> list[str]:
        """The names of all pins, sorted, also of those whose files cannot be read."""
        return [name.removesuffix(".json") for name in self._files.names(_FOLDER)]

    def all(self) -> list[Pin]:
        """All pins by name, expired ones too.

        Raises:
            DatasetError: A file is not what it should be.
        """
        found = [self.get(name) for name in self.names()]
        return [pin for pin in found if pin is not None]

    def get(self, name: str) -> Pin | None:
        """The pin of that name, if there is one."""
        content = self._files.read(_path(name))
        return None if content is None else Pin.from_json(name, content.decode())

    def set(self, name: str, version: int, days: float | None) -> Pin:
        """Protects `version`, from now on or for so many days; a pin may be prolonged.

        Raises:
            DatasetError: The name is taken by another version, or the version is gone already.
        """
        earlier = self.get(name)
        if earlier is not None and earlier.version != version:
            raise DatasetError(
                f"{self._clips.uri}: pin {name!r} holds version {earlier.version}; unpin it first "
                "or choose another name"
            )
        newest = VideoTable(self._clips.uri, self._clips.options)
        on_newest_state(newest, newest.ensure_properties)
        now = datetime.now(UTC)
        expires_at = None if days is None else now + timedelta(days=days)
        pin = Pin(name, version, now, expires_at)
        self._files.write(_path(name), pin.to_json().encode())
        # Only now: a vacuum that did not see the pin has deleted the files before or not at all.
        self._check_is_whole(pin)
        return pin

    def remove(self, name: str) -> bool:
        """Gives the version free; returns whether there was such a pin."""
        there = self._files.read(_path(name)) is not None
        self._files.delete(_path(name))
        return there

    def _check_is_whole(self, pin: Pin) -> None:
        try:
            table = VideoTable(self._clips.uri, self._clips.options, pin.version)
            infos = table.filesystem.get_file_info(pa_fs.FileSelector(""))
            missing = table.file_sizes().keys() - {info.path for info in infos}
        except DatasetError:
            self.remove(pin.name)
            raise
        if missing:
            self.remove(pin.name)
            raise DatasetError(
                f"{self._clips.uri}: version {pin.version} cannot be pinned, {len(missing)} of its "
                "files were vacuumed already; pin a newer version"
            )


def _path(name: str) -> str:
    return f"{_FOLDER}/{checked_name(name, 'pin')}.json"
