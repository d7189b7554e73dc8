"""From inflected forms to dictionary forms, with WordNet's rules and lists of exceptions.

Source: WordNet 3.0, manual page morphy(7WN).
Differs: of several dictionary forms the one that WordNet's texts use most is taken.
"""

from __future__ import annotations

from collections.abc import Mapping

from sweettok.lexicon_building.wordnet import WordNet

_ENDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "verb": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "adjective": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adverb": (),
}


class Lemmatizer:
    """Gives the dictionary form of a word as one part of speech.

    Args:
        wordnet: The words that a rule may lead to, and the irregular forms ("ran" → "run").
    """

    def __init__(self, wordnet: WordNet) -> None:
        self._senses = wordnet.senses
        self._exceptions = wordnet.exceptions

    def lemma(self, part_of_speech: str, word: str) -> str | None:
        """The dictionary form of the lower-case `word`; None if WordNet has no such word.

        Where a word is one itself and also a form of another ("colors"), the one used more counts.
        """
        exception = self._exceptions.get((part_of_speech, word), "")
        if (part_of_speech, exception) in self._senses:
            return exception
        bases = [
            word.removesuffix(ending) + replacement
            for ending, replacement in _ENDINGS[part_of_speech]
            if word.endswith(ending)
        ]
        known = [base for base in (word, *bases) if (part_of_speech, base) in self._senses]
        return max(known, key=lambda base: self._num_uses(part_of_speech, base), default=None)

    def _num_uses(self, part_of_speech: str, word: str) -> int:
        return sum(sense.tag_count for sense in self._senses[part_of_speech, word])
