"""Builds the words of both codebooks from captions, WordNet and a text encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.captions import CaptionsConfig, list_caption_files, read_captions
from pipeline.codebook_output import (
    check_writable,
    describe_files,
    describe_local_files,
    install_codebook,
    is_built,
    output_directory,
)
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
        output: Local directory of the lexicon, made if need be; nothing but an empty directory, or
            the same codebook, may be there already.
        words: What to build.
        text_encoder: "minilm", "open_clip:ARCH:PRETRAINED_TAG_OR_PATH" or "vectors:FILE". FILE is a
            .npy array or a .safetensors file with one tensor "vectors", real numbers (words, dim);
            beside it are the words, in a .json (a list) or .txt (one a line) of the same name.
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


@dataclass(frozen=True)
class CodebookBuild:
    """What a run gave.

    Attributes:
        lexicon: The codebook's words.
        output: Where it is.
        is_new: False if it was built there before, of the same recipe and sources.
    """

    lexicon: Lexicon
    output: Path
    is_new: bool


def build_codebook(config: BuildCodebookConfig) -> CodebookBuild:
    """Builds the lexicon and writes it to `config.output`, or finds it there.

    Raises:
        ConfigError: A source that the settings need is not given, or the output cannot be made.
        LexiconError: A source is missing or damaged, or they give fewer words than asked.
        PipelineError: The output holds something else.
        SourceError: The captions cannot be read.
    """
    if config.wordnet_directory is None and config.parser == "wordnet":
        raise ConfigError("parser: wordnet needs wordnet_directory; give it, or parser: spacy")
    output = output_directory(config.output)
    recipe = codebook_recipe(config)
    if is_built(output, recipe):
        return CodebookBuild(Lexicon.load(output), output, is_new=False)
    check_writable(output)
    wordnet = WordNet.load(config.wordnet_directory) if config.wordnet_directory else None
    lexicon = build_lexicon(
        config.words,
        create_text_encoder(config.text_encoder),
        create_parser(config.parser, wordnet),
        wordnet,
        read_captions(config.captions) if config.captions else None,
    )
    install_codebook(lexicon, output, config_yaml=config.to_yaml(), recipe=recipe)
    return CodebookBuild(lexicon, output, is_new=True)


def codebook_recipe(config: BuildCodebookConfig) -> dict[str, Any]:
    """What decides the words: the settings, and which files the sources are.

    Raises:
        SourceError: The captions cannot be listed.
    """
    recipe = config.model_dump(mode="json", exclude={"output": True, "captions": {"storage"}})
    sources = {}
    if config.captions is not None:
        files = list_caption_files(config.captions)
        sources["captions"] = describe_files((f.uri, f.size_bytes, f.version) for f in files)
    if config.wordnet_directory is not None:
        directory = Path(config.wordnet_directory)
        sources["wordnet"] = describe_local_files(directory.glob("*"))
    kind, _, rest = config.text_encoder.partition(":")
    if kind in ("vectors", "open_clip"):
        weights = Path(rest if kind == "vectors" else rest.partition(":")[2])
        beside = [weights.with_suffix(suffix) for suffix in (".json", ".txt") if weights.name]
        sources["text_encoder"] = describe_local_files([weights, *beside])
    return recipe | {"sources": sources}
