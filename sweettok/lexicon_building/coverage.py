"""How much of what captions say a lexicon has words for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sweettok.lexicon import SPATIAL_PARTS_OF_SPEECH, TEMPORAL_PARTS_OF_SPEECH, Lexicon
from sweettok.lexicon_building.caption_statistics import CaptionStatistics


@dataclass(frozen=True)
class PartCoverage:
    """Coverage of one part of speech.

    Attributes:
        part_of_speech: Its name.
        num_uses: Words of this part of speech in the captions.
        num_covered_uses: Those of them that the codebook has.
        num_words: Distinct words of this part of speech in the captions.
        num_covered_words: Those of them that the codebook has.
        missing: The most frequent words that it lacks, with their uses.
    """

    part_of_speech: str
    num_uses: int
    num_covered_uses: int
    num_words: int
    num_covered_words: int
    missing: tuple[tuple[str, int], ...]

    def lines(self) -> Iterator[str]:
        """The coverage as text."""
        if self.num_uses == 0:
            yield f"  {self.part_of_speech}s: none in the captions"
            return
        yield (
            f"  {self.part_of_speech}s: {self.num_covered_uses / self.num_uses:.1%} of "
            f"{self.num_uses:,} uses, {self.num_covered_words / self.num_words:.1%} of "
            f"{self.num_words:,} words"
        )
        if self.missing:
            shown = ", ".join(f"{word} ({count:,})" for word, count in self.missing)
            yield f"    most used that are missing: {shown}"


def measure_coverage(
    lexicon: Lexicon, statistics: CaptionStatistics, *, num_missing: int
) -> tuple[PartCoverage, ...]:
    """The coverage of each part of speech.

    A word is covered if the codebook of its part of speech has it, be it as the other part of
    speech of that codebook ("orange").

    Args:
        lexicon: The words.
        statistics: What the captions say.
        num_missing: How many missing words to tell for each part of speech.
    """
    codebooks = (
        (SPATIAL_PARTS_OF_SPEECH, frozenset(lexicon.spatial.words)),
        (TEMPORAL_PARTS_OF_SPEECH, frozenset(lexicon.temporal.words)),
    )
    return tuple(
        _part_coverage(part, words, statistics, num_missing)
        for parts, words in codebooks
        for part in parts
    )


def _part_coverage(
    part_of_speech: str, words: frozenset[str], statistics: CaptionStatistics, num_missing: int
) -> PartCoverage:
    uses = {word: n for (part, word), n in statistics.words.items() if part == part_of_speech}
    covered = {word: n for word, n in uses.items() if word in words}
    missing = [(word, n) for word, n in uses.items() if word not in words]
    missing.sort(key=lambda item: (-item[1], item[0]))
    return PartCoverage(
        part_of_speech=part_of_speech,
        num_uses=sum(uses.values()),
        num_covered_uses=sum(covered.values()),
        num_words=len(uses),
        num_covered_words=len(covered),
        missing=tuple(missing[:num_missing]),
    )
