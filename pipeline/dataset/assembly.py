"""Videos out of records that arrive in any order, possibly more than once.

The engine promises neither order nor single delivery: a retried task delivers its records again,
a unit's end may overtake its clips, and the parts of a long video come from different workers. The
assembler holds a video's clips until the video is whole and hands it on exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pipeline.errors import PipelineError, QuarantineReason
from pipeline.records import Quarantine, TokenizedClip, UnitEnd, WorkUnit


@dataclass(frozen=True, slots=True)
class CompletedUnit:
    """A video whose fate is known: all its clips, in clip order, or the reason why it has none.

    Attributes:
        unit: The whole video, also where it came in parts.
    """

    unit: WorkUnit
    clips: tuple[TokenizedClip, ...]
    quarantine: Quarantine | None

    @property
    def token_bytes(self) -> int:
        """Size of its tokens before compression."""
        return sum(clip.spatial_tokens.nbytes + clip.temporal_tokens.nbytes for clip in self.clips)


@dataclass(slots=True)
class _Held:
    """What has arrived of a video: its clips, and the end of each part by its number."""

    unit: WorkUnit
    clips: dict[str, TokenizedClip] = field(default_factory=dict)
    ends: dict[int, UnitEnd] = field(default_factory=dict)

    @property
    def num_parts(self) -> int:
        return self.unit.num_parts

    @property
    def num_announced(self) -> int:
        return sum(end.num_clips for end in self.ends.values())

    @property
    def quarantine(self) -> Quarantine | None:
        return next((end.quarantine for end in self.ends.values() if end.quarantine), None)

    def missing(self) -> str:
        if len(self.ends) < self.num_parts and self.num_parts > 1:
            return f"{len(self.ends)} of its {self.num_parts} parts ended"
        if not self.ends:
            return f"its end never arrived ({len(self.clips)} clips did)"
        return f"{len(self.clips)} of its {self.num_announced} clips arrived"


class UnitAssembler:
    """Holds clips until their video is complete: all its parts have ended, all clips are there.

    What arrives for a video that was completed before is a repeated delivery and is dropped. Of
    two ends of a part of an incomplete video the later one counts: it belongs to the later attempt.
    A quarantine of any part is the quarantine of the video, whatever the other parts give.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._completed: dict[str, str] = {}

    def add(self, record: TokenizedClip | UnitEnd) -> CompletedUnit | None:
        """Takes one record; returns its video if the record made it whole.

        Raises:
            PipelineError: The record contradicts others of its video: an end without clips and
                without a reason, more clips than announced, another fingerprint, other parts.
        """
        unit = record.unit
        if self._is_repeated(unit):
            return None
        held = self._held.setdefault(unit.video_id, _Held(unit))
        _check_same_state(unit, held.unit.fingerprint)
        _check_same_parts(unit, held.unit)
        if isinstance(record, UnitEnd):
            _check_end(record)
            held.ends[unit.part_index] = record
        else:
            held.clips[record.clip_id] = record
        return self._take_if_whole(held)

    def incomplete(self) -> list[str]:
        """One line per video that waits for records: its URI and what is missing."""
        return sorted(f"{held.unit.uri}: {held.missing()}" for held in self._held.values())

    def _is_repeated(self, unit: WorkUnit) -> bool:
        fingerprint = self._completed.get(unit.video_id)
        if fingerprint is None:
            return False
        _check_same_state(unit, fingerprint)
        return True

    def _take_if_whole(self, held: _Held) -> CompletedUnit | None:
        if held.quarantine is not None:
            return self._complete(held, held.quarantine)
        num_clips, num_announced = len(held.clips), held.num_announced
        if len(held.ends) < held.num_parts or num_clips < num_announced:
            return None
        if num_clips > num_announced:
            raise PipelineError(
                f"{held.unit.uri}: {num_announced} clips announced, {num_clips} different "
                "ones arrived; two attempts cut the video differently, which must not happen"
            )
        return self._complete(held, _disagreement(held))

    def _complete(self, held: _Held, quarantine: Quarantine | None) -> CompletedUnit:
        del self._held[held.unit.video_id]
        self._completed[held.unit.video_id] = held.unit.fingerprint
        clips = [] if quarantine else sorted(held.clips.values(), key=_clip_index)
        return CompletedUnit(_whole(held.unit), tuple(clips), quarantine)


def _whole(unit: WorkUnit) -> WorkUnit:
    return unit if unit.num_parts == 1 else replace(unit, part_index=0, num_parts=1)


def _clip_index(clip: TokenizedClip) -> int:
    return clip.window.clip_index


def _disagreement(held: _Held) -> Quarantine | None:
    """Why the parts do not fit together; None if they do.

    Parts that fell back to different decoders may have seen different frames of a faulty file.
    """
    if held.num_parts == 1:
        return None
    clips = held.clips.values()
    frames = {(clip.source.num_frames, clip.source.duration_s) for clip in clips}
    indices = sorted(map(_clip_index, clips))
    if indices == list(range(len(indices))) and indices and len(frames) == 1:
        return None
    decoders = ", ".join(sorted({clip.source.decoder for clip in clips})) or "no decoder"
    return Quarantine(
        reason=QuarantineReason.UNDECODABLE,
        stage="decode",
        error_class="DecodeError",
        message=f"its {held.num_parts} parts show different frames (read by {decoders}); "
        "--set decode.part_bytes=null reads it in one piece",
        attempts=held.num_parts,
    )


def _check_end(end: UnitEnd) -> None:
    # A part may hold no clip; that all parts together hold one is seen when they are there.
    if end.quarantine is None and end.num_clips < 1 and end.unit.num_parts == 1:
        raise PipelineError(
            f"{end.unit.uri}: its unit ended with {end.num_clips} clips and no quarantine; "
            "a unit gives clips or the reason why it has none"
        )


def _check_same_state(unit: WorkUnit, fingerprint: str) -> None:
    if unit.fingerprint != fingerprint:
        raise PipelineError(
            f"{unit.uri}: arrived in two states within one run (fingerprints {fingerprint} and "
            f"{unit.fingerprint}); list every video once per run"
        )


def _check_same_parts(unit: WorkUnit, other: WorkUnit) -> None:
    if unit.num_parts != other.num_parts or not 0 <= unit.part_index < unit.num_parts:
        raise PipelineError(
            f"{unit.uri}: part {unit.part_index} of {unit.num_parts} arrived beside parts of "
            f"{other.num_parts}; split every video once per run"
        )
