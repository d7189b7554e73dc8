"""Tries the decoders in order until one has read the whole file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.clips import ALL_CLIPS, ClipShare
from pipeline.decoding.cutting import CutClip, CutSettings, FileCutter, InProcessCutter
from pipeline.decoding.interface import DecodeError, DecoderName
from pipeline.errors import QuarantineReason, RecordError
from pipeline.records import Clip, ClipWindow, WorkUnit

# Another library may read what one cannot. Every other reason is a fact about the file, and a
# decoder that overlooks it (a truncation, say) must not get the chance to.
_LIBRARY_FAILURES = frozenset(
    {
        QuarantineReason.UNDECODABLE,
        QuarantineReason.DECODER_CRASH,
        QuarantineReason.DEADLINE_EXCEEDED,
    }
)
# The same library once more helps only where decoding worked but not as announced.
_PASS_FAILURES = frozenset({QuarantineReason.UNDECODABLE})


def cut_clips(
    local_path: str, unit: WorkUnit, settings: CutSettings, cutter: FileCutter | None = None
) -> Iterator[Clip]:
    """Cuts the clips of a unit, in order, each once.

    Args:
        local_path: A local file that holds the bytes of the unit's video.
        unit: The video, or a part of it: then only the clips of this part.
        cutter: Where decoding happens; None means in this process, without a deadline.

    Raises:
        RecordError: No decoder could read the file to its end. Clips may have been yielded
            before: they are not to be kept.
    """
    cutter = cutter or InProcessCutter(settings)
    share = ClipShare(unit.part_index, unit.num_parts)
    for cut in cut_with_fallback(cutter, settings.decode.decoders, local_path, share):
        yield Clip(unit, cut.window, cut.source, cut.frames)


def cut_with_fallback(
    cutter: FileCutter,
    decoders: Sequence[DecoderName],
    path: str,
    share: ClipShare = ALL_CLIPS,
) -> Iterator[CutClip]:
    """Yields the clips of `share` of `path`; a later decoder goes on where an earlier one failed.

    Raises:
        DecodeError: With the reason of the first decoder that failed, or of the one that found
            a fact about the file, and what each of them said.
    """
    last_window: ClipWindow | None = None
    failures: list[tuple[DecoderName, RecordError]] = []
    for name in decoders:
        if failures and failures[-1][1].reason not in _reasons_to_try(name):
            continue
        try:
            for cut in cutter.cut(name, path, last_window, share):
                last_window = cut.window
                yield cut
            return
        except RecordError as error:
            failures.append((name, error))
            if _is_fact(error):
                break
    raise _combined(failures)


def _reasons_to_try(name: DecoderName) -> frozenset[QuarantineReason]:
    return _PASS_FAILURES if name == "pyav_two_pass" else _LIBRARY_FAILURES


def _is_fact(error: RecordError) -> bool:
    is_final = isinstance(error, DecodeError) and error.is_final
    return is_final or error.reason not in _LIBRARY_FAILURES


def _combined(failures: list[tuple[DecoderName, RecordError]]) -> DecodeError:
    facts = [error for _, error in failures if _is_fact(error)]
    if facts:
        return DecodeError.from_error(facts[0], attempts=len(failures))
    first = DecodeError.from_error(failures[0][1])
    said = dict.fromkeys(f"{name}: {error}" for name, error in failures)
    return DecodeError(
        first.reason,
        "; ".join(said),
        stage=first.stage,
        error_class=first.error_class,
        attempts=len(failures),
    )
