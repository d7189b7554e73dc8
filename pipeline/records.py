"""The typed records of the data's way through the pipeline, in order.

    ListedVideo → WorkUnit → Clip … UnitEnd → TokenizedClip … UnitEnd → dataset rows → commit

Every record is small, frozen and picklable; only `Clip` carries pixels. A stage takes one record
type and yields the next one, knows nothing of the engine, and never raises for one video's fault:
that fault travels as the `quarantine` of the video's `UnitEnd`.

Ids are hashes of content-stable facts, fixed at the source: the same listing gives the same ids
on every machine, in every run, for any number of workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import QuarantineReason


def stable_digest(*parts: object) -> bytes:
    """128 bits of SHA-256 of the parts' texts, order mattering."""
    texts = [str(part).encode() for part in parts]
    framed = b"".join(len(text).to_bytes(8, "little") + text for text in texts)
    return hashlib.sha256(framed).digest()[:16]


def stable_id(*parts: object) -> str:
    """`stable_digest` as 32 hexadecimal digits."""
    return stable_digest(*parts).hex()


def video_digest(uri: str) -> bytes:
    """The 16 bytes of the id of the video at `uri`."""
    return stable_digest("video", uri)


def fingerprint_digest(size_bytes: int, version: str) -> bytes:
    """The 16 bytes of the fingerprint of a video of this size in this version."""
    return stable_digest("fingerprint", size_bytes, version)


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """Where the bytes of a video lie inside a tar shard.

    Attributes:
        offset_bytes: Position of the first byte in the shard.
        size_bytes: How many bytes there are.
    """

    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InputFault:
    """What the listing itself found wrong with an input, which goes to quarantine unread.

    Attributes:
        reason: Typed reason.
        message: One line for people: where the fault lies, what it is, and the remedy.
    """

    reason: QuarantineReason
    message: str

    @classmethod
    def from_fields(cls, fields: Mapping[str, str] | None) -> InputFault | None:
        """The fault that `dataclasses.asdict` took apart; None stays None."""
        if fields is None:
            return None
        return cls(QuarantineReason(fields["reason"]), fields["message"])


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One input as the listing saw it; not a byte of it has been read.

    Attributes:
        uri: Absolute, canonical URI with its scheme ("file:///…", "s3://…"); of a video inside a
            tar shard the shard's, with the member's name behind a "#".
        size_bytes: Size that the store reports.
        version: What tells changes apart: the store's etag or modification time, or a hash of the
            content.
        attributes: The user's own columns (caption, label, split …), carried to every clip row.
        member: Where it lies inside its shard; None for a file of its own.
        fault: What is known to be wrong with it already; None for most.
    """

    uri: str
    size_bytes: int
    version: str
    attributes: dict[str, str] = field(default_factory=dict)
    member: ArchiveMember | None = None
    fault: InputFault | None = None

    @property
    def video_id(self) -> str:
        """Identity of the input: a hash of its URI."""
        return video_digest(self.uri).hex()

    @property
    def fingerprint(self) -> str:
        """Tells changed from unchanged: a hash of size and version."""
        return fingerprint_digest(self.size_bytes, self.version).hex()


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """One piece of work: a video, or a part of one, that the dataset lacks at this fingerprint.

    All rows of a video are committed together or not at all.

    Attributes:
        part_index, num_parts: Which part of the video's clips it is, of how many: a long video is
            spread over workers (see `pipeline.unit_parts`).
        member: Where the video lies inside its tar shard; None for a file of its own.
        fault: What the listing found wrong with the video; None for most.
    """

    video_id: str
    uri: str
    fingerprint: str
    size_bytes: int
    attributes: dict[str, str] = field(default_factory=dict)
    part_index: int = 0
    num_parts: int = 1
    member: ArchiveMember | None = None
    fault: InputFault | None = None

    @classmethod
    def from_listed(cls, video: ListedVideo) -> WorkUnit:
        """The unit that covers the whole of `video`."""
        return cls(
            video.video_id,
            video.uri,
            video.fingerprint,
            video.size_bytes,
            video.attributes,
            member=video.member,
            fault=video.fault,
        )


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a decoder says of a video before any frame is asked for.

    Attributes:
        width_px, height_px: Size as displayed (rotation and pixel aspect applied).
        fps: Average frame rate in frames per second.
        num_frames: Number of displayed frames that the container promises; None if it says nothing.
        duration_s: Duration in seconds; None if the container says nothing.
        codec: The codec's FFmpeg name, such as "h264".
        decoder: Name of the decoder implementation that read it.
    """

    width_px: int
    height_px: int
    fps: float
    num_frames: int | None
    duration_s: float | None
    codec: str
    decoder: str


@dataclass(frozen=True, slots=True)
class ClipWindow:
    """Which frames of a video make one clip.

    Attributes:
        clip_index: Position among the video's clips, from 0.
        frame_indices: Display-order frame numbers, one per clip frame; padding repeats the last.
        start_s: Presentation time of the first frame, in seconds from the video's first frame.
        end_s: Presentation time at which the last real frame ends.
        num_padded_frames: How many frames at the end are repeats of the last real one.
    """

    clip_index: int
    frame_indices: tuple[int, ...]
    start_s: float
    end_s: float
    num_padded_frames: int = 0


@dataclass(frozen=True, slots=True)
class Clip:
    """A cut clip on its way to the encoder.

    Attributes:
        unit: The unit it belongs to.
        window: Which frames it holds.
        source: What the decoder said of the video.
        frames: uint8 array [num_frames, height, width, 3], RGB, in [0, 255], contiguous.
    """

    unit: WorkUnit
    window: ClipWindow
    source: VideoInfo
    frames: np.ndarray

    @property
    def clip_id(self) -> str:
        """Identity of the clip: which video, in which state, which window."""
        return clip_id(self.unit, self.window)


@dataclass(frozen=True, slots=True)
class TokenizedClip:
    """A clip after the encoder: token ids in the place of pixels.

    Attributes:
        spatial_tokens: int16 array [num_spatial_tokens], ids into the spatial codebook.
        temporal_tokens: int16 array [num_temporal_tokens], ids into the temporal codebook.
        psnr_db: What is left of the pixels when the tokens are decoded again, in dB; None if it
            was not measured.
        encode_s: Its share of the seconds that its encoder worked.
    """

    unit: WorkUnit
    window: ClipWindow
    source: VideoInfo
    spatial_tokens: np.ndarray
    temporal_tokens: np.ndarray
    psnr_db: float | None = None
    encode_s: float = field(default=0.0, compare=False)

    @property
    def clip_id(self) -> str:
        """The id of the clip it was made from."""
        return clip_id(self.unit, self.window)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a unit gave no clip.

    Attributes:
        reason: Typed reason.
        stage: Stage that found it: "read", "decode" or "cut".
        error_class: Name of the underlying exception's class.
        message: One line for people, at most 500 characters.
        attempts: How many decoders tried.
    """

    reason: QuarantineReason
    stage: str
    error_class: str
    message: str
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class UnitEnd:
    """Closes a unit: how many clips it gave, or why it gave none.

    A unit is complete once its end and that many clips have arrived, in any order. With a
    quarantine, clips of the unit that were already on their way are dropped.

    Attributes:
        decode_s: Seconds that the decode stage worked on the unit, fetching it included.
    """

    unit: WorkUnit
    num_clips: int
    quarantine: Quarantine | None = None
    decode_s: float = field(default=0.0, compare=False)


def plain_fields(record: VideoInfo | ClipWindow) -> dict[str, Any]:
    """The fields of a record of plain values: `dataclasses.asdict` without its deep copies."""
    return {name: getattr(record, name) for name in record.__slots__}


def clip_id(unit: WorkUnit, window: ClipWindow) -> str:
    """Id of the clip that `window` cuts from `unit`."""
    return clip_id_of(unit.video_id, unit.fingerprint, window.clip_index, window.frame_indices)


def clip_id_of(
    video_id: str, fingerprint: str, clip_index: int, frame_indices: Iterable[int]
) -> str:
    """Id of a clip from the columns of its row."""
    frames = ",".join(map(str, frame_indices))
    return stable_id("clip", video_id, fingerprint, clip_index, frames)
