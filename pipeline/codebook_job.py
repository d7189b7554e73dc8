"""Builds the words of both codebooks from captions, WordNet and a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.captions import CaptionsConfig, read_captions
from sweettok.errors import ConfigError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.assembly import build_lexicon
from sweettok.lexicon_building.caption_parsers import create_parser
from sweettok.lexicon_building.recipe import LexiconRecipe
from sweettok.lexicon_building.text_encoders import create_text_encoder
from sweettok.lexicon_building.wordnet import WordNet
from sweettok.strict_config import StrictConfig


class BuildCodebookConfig(StrictConfig):
    """One run of `jobs/build_codebook.py`.

    Attributes:
        output: Directory of the lexicon, made if need be.
        words: What to build.
        text_encoder: "minilm", "open_clip:ARCH:PRETRAINED_TAG_OR_PATH" or "vectors:FILE".
        parser: "spacy" (dependencies), "wordnet" or "tagged" (neighbours, no parser).
        captions: Captions; null means none. Their licence applies to what is built.
        wordnet_directory: The WordNet 3.0 database, Debian's `wordnet-base`; null means none.
    """

    output: str
    words: LexiconRecipe
    text_encoder: str
    parser: Literal["spacy", "wordnet", "tagged"] = "spacy"
    captions: CaptionsConfig | None = None
    wordnet_directory: str | None = None


def build_codebook(config: BuildCodebookConfig) -> Lexicon:
    """Builds the lexicon and writes it to `config.output`.

    Raises:
        ConfigError: A source that the settings need is not given.
        LexiconError: A source is missing or damaged, or they give fewer words than asked.
        SourceError: The captions cannot be read.
    """
    if config.wordnet_directory is None and config.parser == "wordnet":
        raise ConfigError("parser: wordnet needs wordnet_directory; give it, or parser: spacy")
    wordnet = WordNet.load(config.wordnet_directory) if config.wordnet_directory else None
    lexicon = build_lexicon(
        config.words,
        create_text_encoder(config.text_encoder),
        create_parser(config.parser, wordnet),
        wordnet,
        read_captions(config.captions) if config.captions else None,
    )
    lexicon.save(Path(config.output))
    return lexicon
