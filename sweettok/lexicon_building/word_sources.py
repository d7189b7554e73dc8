"""The texts and the dictionary that words are chosen from, and the candidates that they give."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from sweettok.errors import LexiconError
from sweettok.lexicon_building.caption_statistics import CaptionParser, CaptionStatistics
from sweettok.lexicon_building.recipe import LexiconRecipe
from sweettok.lexicon_building.word_candidates import (
    RankedWord,
    WordFilter,
    fill_up,
    rank_caption_words,
    rank_wordnet_words,
)
from sweettok.lexicon_building.word_selection import one_part_of_speech_each
from sweettok.lexicon_building.wordnet import WordNet

logger = logging.getLogger(__name__)

_NUM_NAMED = 5
_VOCABULARIES = (("noun", "adjective"), ("verb", "adverb"))

Candidates = dict[str, list[RankedWord]]


@dataclass(frozen=True)
class WordSources:
    """What words are chosen from.

    Attributes:
        parser: What parsed the texts.
        wordnet: The database, if the recipe needs it.
        glosses: Statistics of WordNet's definitions and examples, if words come from WordNet.
        captions: Statistics of the captions that were given, if any.
    """

    parser: CaptionParser
    wordnet: WordNet | None = None
    glosses: CaptionStatistics | None = None
    captions: CaptionStatistics | None = None

    @property
    def all_texts(self) -> CaptionStatistics:
        """Statistics of glosses and captions together."""
        total = CaptionStatistics()
        for statistics in (self.glosses, self.captions):
            if statistics is not None:
                total.update(statistics)
        return total

    def rows(self) -> list[dict[str, str]]:
        """Name, licence and use of each source, for the provenance of what is built."""
        rows = []
        if self.wordnet is not None:
            rows.append(_row("WordNet 3.0", "WordNet 3.0 license", self._use_of_wordnet()))
        rows.append(_row(self.parser.name, self.parser.licence, self.parser.gives))
        if self.captions is not None:
            rows.append(_row("captions given by the builder", "theirs", "counts"))
        return rows

    def _use_of_wordnet(self) -> str:
        if self.glosses is None:
            return "which words may be chosen"
        return "words, parts of speech, sense counts; glosses and examples as captions"


def _row(name: str, licence: str, used_for: str) -> dict[str, str]:
    return {"name": name, "licence": licence, "used_for": used_for}


def find_candidates(
    recipe: LexiconRecipe,
    sources: WordSources,
    known_words: Collection[str] | None = None,
    vectors_name: str = "the vectors",
) -> Candidates:
    """The ranked candidates of each part of speech; no word is two parts of one vocabulary.

    Args:
        recipe: What to build.
        sources: What words are chosen from.
        known_words: The only words that may be chosen, those with a vector; None means all.
        vectors_name: Where these vectors are from.

    Raises:
        LexiconError: The sources give fewer words than asked, or no caption at all.
    """
    if sources.captions is not None and not sources.captions.num_captions:
        raise LexiconError("0 captions were given; give some, or leave captions out")
    texts = sources.all_texts
    word_filter = WordFilter(recipe.keep, sources.wordnet, texts)
    candidates: Candidates = {}
    for parts in _VOCABULARIES:
        own = _caption_words(recipe, sources, parts, word_filter)
        others = _wordnet_words(recipe, sources, texts, parts, word_filter)
        candidates |= fill_up(own, others) if own and others else own or others
    lack = ""
    if known_words is not None:
        candidates, lack = _with_vector(candidates, known_words, vectors_name)
    _check_numbers(recipe, sources, candidates, lack)
    return candidates


def _with_vector(
    candidates: Candidates, known_words: Collection[str], vectors_name: str
) -> tuple[Candidates, str]:
    """The candidates that have a vector, and in words how many have none."""
    kept = {
        part: [item for item in ranked if item.word in known_words]
        for part, ranked in candidates.items()
    }
    missing = [
        item for ranked in candidates.values() for item in ranked if item.word not in known_words
    ]
    if not missing:
        return kept, ""
    most_used = sorted(missing, key=lambda item: -item.num_uses)[:_NUM_NAMED]
    lack = f"{len(missing):,} words have no vector in {vectors_name}, most used of them "
    lack += ", ".join(item.word for item in most_used)
    logger.info(lack)
    return kept, lack


def _caption_words(
    recipe: LexiconRecipe, sources: WordSources, parts: tuple[str, str], word_filter: WordFilter
) -> Candidates:
    captions = sources.captions
    if recipe.words_from == "wordnet" or captions is None:
        return {}
    return _unique(
        {
            part: rank_caption_words(
                captions, part, min_count=recipe.min_count, word_filter=word_filter
            )
            for part in parts
        }
    )


def _wordnet_words(
    recipe: LexiconRecipe,
    sources: WordSources,
    texts: CaptionStatistics,
    parts: tuple[str, str],
    word_filter: WordFilter,
) -> Candidates:
    wordnet = sources.wordnet
    if recipe.words_from == "captions" or wordnet is None:
        return {}
    # The floor is one on the captions' words; what fills up is what they lack.
    min_count = recipe.min_count if recipe.words_from == "wordnet" else 0
    return _unique(
        {
            part: rank_wordnet_words(
                wordnet, texts, part, min_count=min_count, word_filter=word_filter
            )
            for part in parts
        }
    )


def _unique(candidates: Candidates) -> Candidates:
    heads, modifiers = candidates
    unique = one_part_of_speech_each(candidates[heads], candidates[modifiers])
    return dict(zip((heads, modifiers), unique, strict=True))


def _check_numbers(
    recipe: LexiconRecipe, sources: WordSources, candidates: Candidates, lack: str
) -> None:
    short = [
        f"{len(candidates[part]):,} {part}s ({wanted:,} asked)"
        for part, wanted in recipe.num_wanted.items()
        if len(candidates[part]) < wanted
    ]
    if not short:
        return
    texts = "the sources give"
    if recipe.words_from == "captions" and sources.captions is not None:
        texts = f"the {sources.captions.num_captions:,} captions read give"
    parts = [f"{texts} only {', '.join(short)}", lack, _remedy(recipe, has_lack=bool(lack))]
    raise LexiconError("; ".join(part for part in parts if part))


def _remedy(recipe: LexiconRecipe, *, has_lack: bool) -> str:
    remedies = ["ask for fewer"]
    if has_lack:
        remedies.append("give vectors of more words")
    if recipe.min_count > (0 if recipe.words_from == "wordnet" else 1):
        remedies.append(f"lower min_count ({recipe.min_count})")
    remedies.append("give more captions")
    if recipe.keep == "visual":
        remedies.append("take keep: known")
    if recipe.words_from == "captions" and recipe.keep != "all":
        remedies.append("take words_from: captions_then_wordnet")
    return ", ".join(remedies[:-1]) + f" or {remedies[-1]}"
