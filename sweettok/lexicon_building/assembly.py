"""Puts a lexicon together: words chosen from WordNet and captions, embedded, with their graph."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon, Vocabulary
from sweettok.lexicon_building.caption_statistics import CaptionParser, gather_statistics
from sweettok.lexicon_building.progress import ProgressLog
from sweettok.lexicon_building.recipe import LexiconRecipe
from sweettok.lexicon_building.text_encoders import TextEncoder, embed_words, prompts_for
from sweettok.lexicon_building.word_candidates import RankedWord
from sweettok.lexicon_building.word_selection import ChosenWords, choose_words
from sweettok.lexicon_building.word_sources import WordSources, find_candidates
from sweettok.lexicon_building.wordnet import WordNet

logger = logging.getLogger(__name__)


def build_lexicon(
    recipe: LexiconRecipe,
    encoder: TextEncoder,
    parser: CaptionParser,
    wordnet: WordNet | None = None,
    captions: Iterable[str] | None = None,
) -> Lexicon:
    """Builds a lexicon: parses the texts, chooses the words, embeds them.

    Args:
        recipe: What to build.
        encoder: Gives the words their vectors.
        parser: Tells the words of the texts, their parts of speech and their links.
        wordnet: The database; needed unless all words of the captions are kept.
        captions: Captions; needed if words come from them.

    Raises:
        LexiconError: A source that the recipe needs is missing or empty, or they give fewer words
            than asked.
    """
    if recipe.needs_wordnet and wordnet is None:
        raise LexiconError(
            f"words_from: {recipe.words_from} with keep: {recipe.keep} needs WordNet; give its "
            "directory, or take words_from: captions with keep: all"
        )
    if recipe.words_from != "wordnet" and captions is None:
        raise LexiconError(
            f"words_from: {recipe.words_from} needs captions; give some, or take "
            "words_from: wordnet"
        )
    glosses = given = None
    if wordnet is not None and recipe.words_from != "captions":
        logger.info("parsing the glosses and examples of %d synsets", len(wordnet.synsets))
        glosses = gather_statistics(wordnet.captions(), parser)
    if captions is not None:
        logger.info("parsing the captions given")
        given = gather_statistics(captions, parser)
    return assemble_lexicon(recipe, encoder, WordSources(parser, wordnet, glosses, given))


def assemble_lexicon(recipe: LexiconRecipe, encoder: TextEncoder, sources: WordSources) -> Lexicon:
    """Builds a lexicon from statistics that were gathered before.

    Raises:
        LexiconError: The sources give fewer words than asked.
    """
    candidates = find_candidates(recipe, sources, encoder.known_words, encoder.name)
    texts = sources.all_texts
    spatial = _chosen(recipe, candidates, ("noun", "adjective"), texts.adjective_noun)
    temporal = _chosen(recipe, candidates, ("verb", "adverb"), texts.adverb_verb)
    prompts = prompts_for(encoder, recipe.prompt_templates)
    progress = ProgressLog("embedding", "words", len(spatial.words) + len(temporal.words))
    lexicon = Lexicon(
        name=recipe.name,
        spatial=_embedded(spatial, encoder, prompts, progress),
        temporal=_embedded(temporal, encoder, prompts, progress),
        text_encoder=encoder.name,
        provenance=_provenance(recipe, encoder, sources, prompts),
    )
    progress.finish()
    return lexicon


def _chosen(
    recipe: LexiconRecipe,
    candidates: Mapping[str, list[RankedWord]],
    parts: tuple[str, str],
    pairs: Mapping[tuple[str, str], int],
) -> ChosenWords:
    heads, modifiers = parts
    chosen = choose_words(
        candidates[heads],
        candidates[modifiers],
        pairs,
        num_heads=recipe.num_wanted[heads],
        num_modifiers=recipe.num_wanted[modifiers],
    )
    logger.info(
        "%ss and %ss: %d words, %d edges, %d words without an edge",
        heads,
        modifiers,
        len(chosen.words),
        len(chosen.edges),
        chosen.num_unlinked,
    )
    return chosen


def _embedded(
    chosen: ChosenWords,
    encoder: TextEncoder,
    prompts: Mapping[str, tuple[str, ...]],
    progress: ProgressLog,
) -> Vocabulary:
    parts = tuple(item.part_of_speech for item in chosen.words)
    embeddings = [
        embed_words(
            encoder,
            [item.word for item in chosen.words if item.part_of_speech == part],
            prompts[part],
            progress,
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
    recipe: LexiconRecipe,
    encoder: TextEncoder,
    sources: WordSources,
    prompts: Mapping[str, tuple[str, ...]],
) -> Mapping[str, Any]:
    rows = sources.rows()
    rows.append({"name": encoder.name, "licence": encoder.licence, "used_for": "embeddings"})
    return {
        "recipe": recipe.to_provenance(),
        "prompt_templates": {part: list(templates) for part, templates in prompts.items()},
        "sources": rows,
    }
