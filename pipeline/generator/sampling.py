"""Sampling legal sequences with the library's `generate`: static cache, guidance, top-k, top-p."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pydantic
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from pipeline.generator.model import Generator
from pipeline.sequences.vocabulary import BEGIN, NO_CLASS, SequenceVocabulary
from sweettok.strict_config import StrictConfig


class SamplingConfig(StrictConfig):
    """How tokens are drawn.

    Attributes:
        temperature: Divides the logits; 0 takes the likeliest token.
        top_k: Draw from so many likeliest tokens; null: from all.
        top_p: Draw from the likeliest tokens that together have this probability; null: from all.
        guidance: Scale of classifier-free guidance; 1 is none.
        batch_size: Sequences that are drawn at one time.
        static_cache: Allocate the whole cache at once. It needs no growth, and compiles.
    """

    temperature: float = pydantic.Field(default=1.0, ge=0)
    top_k: int | None = pydantic.Field(default=None, ge=1)
    top_p: float | None = pydantic.Field(default=None, gt=0, le=1)
    guidance: float = pydantic.Field(default=1.0, ge=0)
    batch_size: int = pydantic.Field(default=16, ge=1)
    static_cache: bool = True


class LegalIds(LogitsProcessor):
    """Lets only those ids be drawn that may stand at the next place of a sequence."""

    def __init__(self, vocabulary: SequenceVocabulary, device: torch.device) -> None:
        ids = torch.arange(vocabulary.size, device=device)
        self._places = [
            (ids < first) | (ids >= last) for first, last in vocabulary.legal_ids().tolist()
        ]

    def __call__(
        self, input_ids: Int[Tensor, "b l"], scores: Float[Tensor, "b v"]
    ) -> Float[Tensor, "b v"]:
        """Scores with minus infinity for all illegal ids."""
        return scores.masked_fill(self._places[input_ids.shape[1]], -torch.inf)


def prompts(
    vocabulary: SequenceVocabulary,
    class_ids: Int[Tensor, " b"],
    beginnings: Int[Tensor, "b l"] | None = None,
    num_tubes: int = 0,
) -> Int[Tensor, "b p"]:
    """What sequences begin with: a class, or the first frames of clips.

    Args:
        vocabulary: Of the generator.
        class_ids: As `SequenceVocabulary.class_id` gives them.
        beginnings: Whole sequences whose first frame and `num_tubes` tubes are given; None: only
            the class is.
        num_tubes: Tubes that are given.
    """
    if beginnings is None:
        begin = torch.full_like(class_ids, BEGIN)
        return torch.stack([begin, class_ids], dim=1)
    found = beginnings[:, : vocabulary.prefix_length(num_tubes)].clone()
    found[:, 1] = class_ids.to(found)
    return found


@torch.inference_mode()
def sample(
    model: Generator,
    vocabulary: SequenceVocabulary,
    given: Int[Tensor, "b p"],
    config: SamplingConfig,
    *,
    seed: int = 0,
) -> Iterator[Int[Tensor, "n l"]]:
    """Completes `given` to whole sequences, batch by batch; every one of them is legal.

    The draws of a batch depend on `seed` and the batch's number alone.
    """
    device = next(model.parameters()).device
    guidance, model.guidance = model.guidance, config.guidance
    try:
        for number, start in enumerate(range(0, len(given), config.batch_size)):
            torch.manual_seed(seed * 1_000_003 + number)
            yield _complete(
                model, vocabulary, given[start : start + config.batch_size].to(device), config
            ).cpu()
    finally:
        model.guidance = guidance


def _complete(
    model: Generator,
    vocabulary: SequenceVocabulary,
    given: Int[Tensor, "n p"],
    config: SamplingConfig,
) -> Int[Tensor, "n l"]:
    is_greedy = config.temperature == 0
    settings: dict[str, Any] = {
        "max_new_tokens": vocabulary.length - given.shape[1],
        "do_sample": not is_greedy,
        "cache_implementation": "static" if config.static_cache else None,
    }
    if not is_greedy:
        settings |= {
            "temperature": config.temperature,
            "top_k": config.top_k or 0,
            "top_p": config.top_p or 1.0,
        }
    library: Any = model
    found: Tensor = library.generate(
        given,
        attention_mask=torch.ones_like(given),
        logits_processor=LogitsProcessorList([LegalIds(vocabulary, given.device)]),
        **settings,
    )
    return found


def sampling_device(name: str) -> torch.device:
    """The device called so; for "auto" a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def no_class(count: int) -> Int[Tensor, " b"]:
    """Class ids for unconditional sampling."""
    return torch.full((count,), NO_CLASS)
