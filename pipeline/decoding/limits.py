"""What a file may cost beside its deadline, and what no decoder is asked about at all."""

from __future__ import annotations

import resource

from pipeline.decoding.interface import DecodeConfig
from pipeline.errors import PipelineError, QuarantineReason, RecordError

# Texts that FFmpeg follows to other files. A file may begin with one of these and be a video to one
# version of FFmpeg and a playlist to another, which the decoders bring along.
_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat version", b"<?xml", b"<MPD", b"<SmoothStreamingMedia")
_LONGEST_START = max(map(len, _PLAYLIST_STARTS))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def refuse_playlist(path: str) -> None:
    """Refuses a file that begins as a playlist does, whatever follows.

    Raises:
        RecordError: NOT_A_VIDEO, or NOT_FOUND if it cannot be opened.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_BYTE_ORDER_MARK) + _LONGEST_START)
    except OSError as error:
        raise RecordError(
            QuarantineReason.NOT_FOUND, f"cannot be opened: {error.strerror}", stage="read"
        ) from error
    if start.removeprefix(_BYTE_ORDER_MARK).startswith(_PLAYLIST_STARTS):
        shown = start.removeprefix(_BYTE_ORDER_MARK)[:_LONGEST_START].split()[0]
        raise RecordError(
            QuarantineReason.NOT_A_VIDEO, f"begins with {shown!r}: a playlist, not a video"
        )


def check_num_frames(num_frames: int, config: DecodeConfig) -> None:
    """Refuses a video while its packets are still counted.

    Raises:
        RecordError: TOO_LARGE.
    """
    if num_frames > config.max_frames:
        raise RecordError(
            QuarantineReason.TOO_LARGE, f"more than decode.max_frames = {config.max_frames} frames"
        )


def check_duration(duration_s: float, config: DecodeConfig) -> None:
    """Refuses a video that lasts too long.

    Raises:
        RecordError: TOO_LARGE.
    """
    if duration_s > config.max_duration_s:
        raise RecordError(
            QuarantineReason.TOO_LARGE,
            f"lasts {duration_s:.0f} s, above decode.max_duration_s = {config.max_duration_s:g}",
        )


def limit_memory(pid: int, config: DecodeConfig) -> None:
    """Keeps a decoding child from asking for more memory than a file may cost.

    Not where a decoder on a GPU is named: its driver maps more than it uses.

    Raises:
        PipelineError: The system does not allow it.
    """
    if config.num_gpus > 0:
        return
    try:
        limits = (config.max_memory_bytes, config.max_memory_bytes)
        resource.prlimit(pid, resource.RLIMIT_DATA, limits)
    except ProcessLookupError:
        return  # it has ended already, and whoever asks it something is told so
    except (OSError, ValueError) as error:
        raise PipelineError(
            f"the decoding process cannot be limited to decode.max_memory_bytes = "
            f"{config.max_memory_bytes} ({error}); lower it to what `ulimit -Hd` says"
        ) from error
