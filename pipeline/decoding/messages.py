"""The words between the decoding child and its parent: one JSON object per message.

Not pickle: a child that reads hostile files is not to be trusted with code of ours.
"""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.interface import DecodeConfig, DecodeError
from pipeline.errors import QuarantineReason
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import ClipWindow, VideoInfo
from sweettok.geometry import ClipGeometry

_MAX_MESSAGE_BYTES = 2**20

Message = dict[str, Any]


def send(connection: Connection, message: Message) -> None:
    """Sends one message; raises `OSError` when the other side has gone."""
    connection.send_bytes(json.dumps(message).encode("ascii"))


def receive(connection: Connection) -> Message:
    """Waits for one message; raises `EOFError` or `OSError` when the other side has gone."""
    message: Message = json.loads(connection.recv_bytes(_MAX_MESSAGE_BYTES))
    return message


def settings_to_message(settings: CutSettings) -> Message:
    """The settings as plain values."""
    return {
        "decode": settings.decode.to_mapping(),
        "clips": settings.clips.to_mapping(),
        "preprocess": settings.preprocess.to_mapping(),
        "geometry": settings.geometry.to_mapping(),
    }


def settings_from_message(message: Message) -> CutSettings:
    """The inverse of `settings_to_message`."""
    return CutSettings(
        decode=DecodeConfig.from_mapping(message["decode"]),
        clips=ClipConfig.from_mapping(message["clips"]),
        preprocess=PreprocessConfig.from_mapping(message["preprocess"]),
        geometry=ClipGeometry.from_mapping(message["geometry"]),
    )


def window_from_message(message: Message) -> ClipWindow:
    """The inverse of `dataclasses.asdict` for a window."""
    return ClipWindow(**{**message, "frame_indices": tuple(message["frame_indices"])})


def info_from_message(message: Message) -> VideoInfo:
    """The inverse of `dataclasses.asdict` for a video's facts."""
    return VideoInfo(**message)


def failure_to_message(failure: DecodeError) -> Message:
    """A record error as plain values."""
    return {
        "reason": failure.reason.value,
        "message": str(failure),
        "stage": failure.stage,
        "error_class": failure.error_class,
        "is_final": failure.is_final,
    }


def failure_from_message(message: Message) -> DecodeError:
    """The inverse of `failure_to_message`."""
    return DecodeError(
        QuarantineReason(message["reason"]),
        message["message"],
        stage=message["stage"],
        error_class=message["error_class"],
        is_final=message["is_final"],
    )
