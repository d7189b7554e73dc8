"""Puts a lexicon together: words chosen from WordNet and captions, embedded, with their graph."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic
import torch

from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon, Vocabulary
from sweettok.lexicon_building.caption_statistics import (
    PARSER_PACKAGE,
    CaptionStatistics,
    gather_statistics,
)
from sweettok.lexicon_building.text_encoders import PROMPT_TEMPLATES, TextEncoder, embed_words
from sweettok.lexicon_building.word_selection import ChosenWords, choose_words, rank_candidates
from sweettok.lexicon_building.wordnet import WordNet
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_SOURCES = (
    {
        "name": "WordNet 3.0",
        "licence": "WordNet 3.0 license",
        "used_for": "words, parts of speech, sense counts; glosses and examples as captions",
    },
    {
        "name": f"{PARSER_PACKAGE} (spaCy)",
        "licence": "MIT",
        "used_for": "lemmas, parts of speech and dependencies of the captions",
    },
)


class LexiconRecipe(StrictConfig):
    """What to build.

    Attributes:
        name: Name of the lexicon.
        num_nouns: Number of nouns.
        num_adjectives: Number of adjectives.
        num_verbs: Number of verbs.
        num_adverbs: Number of adverbs.
        min_count: Least number of occurrences of a word in the captions.
    """

    name: str = pydantic.Field(min_length=1)
    num_nouns: pydantic.PositiveInt
    num_adjectives: pydantic.PositiveInt
    num_verbs: pydantic.PositiveInt
    num_adverbs: pydantic.PositiveInt
    min_count: pydantic.PositiveInt


def read_captions(path: str | Path) -> Iterator[str]:
    """Yields the captions of a UTF-8 text file: one a line, empty lines left out.

    Raises:
        LexiconError: The file cannot be read.
    """
    try:
        with Path(path).open(encoding="utf-8") as lines:
            yield from (line.strip() for line in lines if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise LexiconError(
            f"{path}: captions cannot be read ({error}); give a UTF-8 text file"
        ) from None


def build_lexicon(
    recipe: LexiconRecipe,
    wordnet: WordNet,
    encoder: TextEncoder,
    captions: Iterable[str] | None = None,
) -> Lexicon:
    """Builds a lexicon: parses WordNet's glosses and `captions`, chooses the words, embeds them.

    Raises:
        LexiconError: The parser is not installed, or the sources give fewer words than asked.
    """
    logger.info("parsing the glosses and examples of %d synsets", len(wordnet.synsets))
    statistics = gather_statistics(wordnet.captions())
    if captions is not None:
        logger.info("parsing the captions given beside them")
        statistics.update(gather_statistics(captions))
    return assemble_lexicon(recipe, wordnet, encoder, statistics, has_captions=captions is not None)


def assemble_lexicon(
    recipe: LexiconRecipe,
    wordnet: WordNet,
    encoder: TextEncoder,
    statistics: CaptionStatistics,
    *,
    has_captions: bool = False,
) -> Lexicon:
    """Builds a lexicon from caption statistics that were gathered before.

    Raises:
        LexiconError: The sources give fewer words than asked.
    """
    ranked = {
        part: rank_candidates(wordnet, statistics, part, min_count=recipe.min_count)
        for part in PROMPT_TEMPLATES
    }
    spatial = choose_words(
        ranked["noun"],
        ranked["adjective"],
        statistics.adjective_noun,
        num_heads=recipe.num_nouns,
        num_modifiers=recipe.num_adjectives,
    )
    temporal = choose_words(
        ranked["verb"],
        ranked["adverb"],
        statistics.adverb_verb,
        num_heads=recipe.num_verbs,
        num_modifiers=recipe.num_adverbs,
    )
    for label, chosen in (("spatial", spatial), ("temporal", temporal)):
        logger.info(
            "%s: %d words, %d edges, %d words without an edge",
            label,
            len(chosen.words),
            len(chosen.edges),
            chosen.num_unlinked,
        )
    return Lexicon(
        name=recipe.name,
        spatial=_embedded(spatial, encoder),
        temporal=_embedded(temporal, encoder),
        text_encoder=encoder.name,
        provenance=_provenance(recipe, encoder, has_captions),
    )


def _embedded(chosen: ChosenWords, encoder: TextEncoder) -> Vocabulary:
    parts = tuple(item.part_of_speech for item in chosen.words)
    embeddings = [
        embed_words(
            encoder,
            [item.word for item in chosen.words if item.part_of_speech == part],
            PROMPT_TEMPLATES[part],
        )
        for part in dict.fromkeys(parts)
    ]
    edges = torch.tensor(list(chosen.edges), dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Vocabulary(
        words=tuple(item.word for item in chosen.words),
        parts_of_speech=parts,
        embeddings=torch.cat(embeddings),
        edges=edges,
        edge_counts=torch.tensor(list(chosen.edges.values()), dtype=torch.int64),
        word_counts=tuple(item.num_uses for item in chosen.words),
    )


def _provenance(
    recipe: LexiconRecipe, encoder: TextEncoder, has_captions: bool
) -> Mapping[str, Any]:
    sources = [*_SOURCES]
    if has_captions:
        sources.append(
            {"name": "captions given by the builder", "licence": "theirs", "used_for": "counts"}
        )
    sources.append({"name": encoder.name, "licence": encoder.licence, "used_for": "embeddings"})
    return {
        "recipe": recipe.to_mapping(),
        "prompt_templates": {part: list(prompts) for part, prompts in PROMPT_TEMPLATES.items()},
        "sources": sources,
    }
