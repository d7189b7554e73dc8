"""What a lexicon is to be: its sizes, where its words come from, which of them are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import pydantic

from sweettok.lexicon_building.text_encoders import PROMPT_TEMPLATES
from sweettok.strict_config import StrictConfig

PARTS_OF_SPEECH = ("noun", "adjective", "verb", "adverb")


class LexiconRecipe(StrictConfig):
    """What to build.

    Attributes:
        name: Name of the lexicon.
        num_nouns: Number of nouns.
        num_adjectives: Number of adjectives.
        num_verbs: Number of verbs.
        num_adverbs: Number of adverbs.
        min_count: Least number of occurrences of a word in the captions.
        words_from: "wordnet": WordNet's words, its glosses counted as captions beside those given.
            "captions": the words of the captions, most frequent first. "captions_then_wordnet":
            where these are too few, WordNet's best words fill up.
        keep: Which words may be chosen. "visual": those that WordNet knows, that are fit to be
            shown to anyone, and that name what can be seen. "known": the first two alone. "all":
            whatever the captions' tags say.
        prompt_templates: For each part of speech, the prompts whose embeddings are averaged; "{}"
            stands for the word.
    """

    name: str = pydantic.Field(min_length=1)
    num_nouns: pydantic.PositiveInt
    num_adjectives: pydantic.PositiveInt
    num_verbs: pydantic.PositiveInt
    num_adverbs: pydantic.PositiveInt
    min_count: pydantic.NonNegativeInt
    words_from: Literal["wordnet", "captions", "captions_then_wordnet"] = "wordnet"
    keep: Literal["visual", "known", "all"] = "visual"
    prompt_templates: dict[str, tuple[str, ...]] = pydantic.Field(
        default_factory=lambda: dict(PROMPT_TEMPLATES)
    )

    @pydantic.field_validator("prompt_templates")
    @classmethod
    def _check_templates(cls, templates: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if sorted(templates) != sorted(PARTS_OF_SPEECH):
            raise ValueError(f"must have prompts for each of {', '.join(PARTS_OF_SPEECH)}")
        for part, prompts in templates.items():
            if not prompts or any(prompt.count("{}") != 1 for prompt in prompts):
                raise ValueError(f"{part}: must be one or more prompts with one '{{}}' each")
        return templates

    @pydantic.model_validator(mode="after")
    def _check_sources(self) -> Self:
        if self.keep == "all" and self.words_from != "captions":
            raise ValueError(
                f"keep: all needs words_from: captions (it is {self.words_from}); "
                "WordNet's words are at least known"
            )
        return self

    @property
    def needs_wordnet(self) -> bool:
        """Whether words are taken from WordNet or judged by it."""
        return self.words_from != "captions" or self.keep != "all"

    @property
    def num_wanted(self) -> Mapping[str, int]:
        """Number of words of each part of speech."""
        numbers = (self.num_nouns, self.num_adjectives, self.num_verbs, self.num_adverbs)
        return dict(zip(PARTS_OF_SPEECH, numbers, strict=True))

    def to_provenance(self) -> dict[str, Any]:
        """What the artifact records: the sizes, and every setting that is not its default.

        The prompts are left out: the artifact records those that were used on their own.
        """
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"prompt_templates"})
