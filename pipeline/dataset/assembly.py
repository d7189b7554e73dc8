"""Units out of records that arrive in any order, possibly more than once.

The engine promises neither order nor single delivery: a retried task delivers its records again,
and a unit's end may overtake its clips. The assembler holds a unit's clips until the unit is
whole and hands it on exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.errors import PipelineError
from pipeline.records import Quarantine, TokenizedClip, UnitEnd, WorkUnit


@dataclass(frozen=True, slots=True)
class CompletedUnit:
    """A unit whose fate is known: all its clips, in clip order, or the reason why it has none."""

    unit: WorkUnit
    clips: tuple[TokenizedClip, ...]
    quarantine: Quarantine | None

    @property
    def token_bytes(self) -> int:
        """Size of its tokens before compression."""
        return sum(clip.spatial_tokens.nbytes + clip.temporal_tokens.nbytes for clip in self.clips)


@dataclass(slots=True)
class _Held:
    unit: WorkUnit
    clips: dict[str, TokenizedClip] = field(default_factory=dict)
    end: UnitEnd | None = None


class UnitAssembler:
    """Holds clips until their unit is complete.

    What arrives for a unit that was completed before is a repeated delivery and is dropped. Of
    two ends of an incomplete unit the later one counts: it belongs to the later attempt.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._completed: dict[str, str] = {}

    def add(self, record: TokenizedClip | UnitEnd) -> CompletedUnit | None:
        """Takes one record; returns its unit if the record made it whole.

        Raises:
            PipelineError: The record contradicts others of its unit: an end without clips and
                without a reason, more clips than announced, another fingerprint of the video.
        """
        unit = record.unit
        if self._is_repeated(unit):
            return None
        held = self._held.setdefault(unit.video_id, _Held(unit))
        _check_same_state(unit, held.unit.fingerprint)
        if isinstance(record, UnitEnd):
            _check_end(record)
            held.end = record
        else:
            held.clips[record.clip_id] = record
        return self._take_if_whole(held)

    def incomplete(self) -> list[str]:
        """One line per unit that waits for records: its URI and what is missing."""
        lines = []
        for held in self._held.values():
            if held.end is None:
                missing = f"its end never arrived ({len(held.clips)} clips did)"
            else:
                missing = f"{len(held.clips)} of its {held.end.num_clips} clips arrived"
            lines.append(f"{held.unit.uri}: {missing}")
        return sorted(lines)

    def _is_repeated(self, unit: WorkUnit) -> bool:
        fingerprint = self._completed.get(unit.video_id)
        if fingerprint is None:
            return False
        _check_same_state(unit, fingerprint)
        return True

    def _take_if_whole(self, held: _Held) -> CompletedUnit | None:
        end = held.end
        if end is None:
            return None
        if end.quarantine is not None:
            return self._complete(held, ())
        if len(held.clips) < end.num_clips:
            return None
        if len(held.clips) > end.num_clips:
            raise PipelineError(
                f"{held.unit.uri}: {end.num_clips} clips announced, {len(held.clips)} different "
                "ones arrived; two attempts cut the video differently, which must not happen"
            )
        clips = sorted(held.clips.values(), key=lambda clip: clip.window.clip_index)
        return self._complete(held, tuple(clips))

    def _complete(self, held: _Held, clips: tuple[TokenizedClip, ...]) -> CompletedUnit:
        assert held.end is not None
        del self._held[held.unit.video_id]
        self._completed[held.unit.video_id] = held.unit.fingerprint
        return CompletedUnit(held.unit, clips, held.end.quarantine)


def _check_end(end: UnitEnd) -> None:
    if end.quarantine is None and end.num_clips < 1:
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
