"""Log-likelihoods of a few names after many questions that begin alike, each token computed once.

The common beginning is read once, each question once after it, and of each name only the tokens
after its first: what was read is kept as keys and values and continued in batches.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.errors import PipelineError


class LabelScorer:
    """A causal language model that is asked how likely names are.

    Args:
        model: In inference mode.
        tokenizer: Its own.
        batch_size: Rows that are computed together.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int
    ) -> None:
        self._model: Any = model
        self._tokenizer: Any = tokenizer
        self._batch_size = batch_size

    @torch.inference_mode()
    def scores(
        self, beginning: str, questions: Sequence[str], names: Sequence[str]
    ) -> Float[Tensor, "q n"]:
        """ln p(" " + name | beginning + question), summed over the name's tokens, in float32.

        Args:
            beginning: What all questions have before them, not empty.
            questions: What is asked.
            names: What may be answered.

        Raises:
            PipelineError: A prompt is longer than the model can read.
        """
        start = self._ids(beginning, begins=True)
        asked = [self._ids(question) for question in questions]
        answers = [self._ids(f" {name}") for name in names]
        self._check_length(len(start) + max(map(len, asked)) + max(map(len, answers)))
        cache = DynamicCache()
        self._logits(torch.tensor([start]), torch.ones(1, len(start)), cache)
        size = max(1, self._batch_size // len(names))
        return torch.cat(
            [
                self._of_questions(
                    len(start), copy.deepcopy(cache), asked[first : first + size], answers
                )
                for first in range(0, len(asked), size)
            ]
        )

    def _of_questions(
        self, num_before: int, cache: Any, asked: list[list[int]], answers: list[list[int]]
    ) -> Tensor:
        """Scores [questions, names]; `cache` holds the beginning and is used up."""
        cache.batch_select_indices(self._indices([0] * len(asked)))
        width = max(map(len, asked))
        # Padded on the left, so that all names continue at one column.
        ids = torch.tensor([[0] * (width - len(row)) + row for row in asked])
        real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in asked])
        mask = torch.cat([torch.ones(len(asked), num_before), real], dim=1)
        first = F.log_softmax(self._logits(ids, mask, cache)[:, -1], dim=-1)
        scores = first[:, [answer[0] for answer in answers]]
        longer = [number for number, answer in enumerate(answers) if len(answer) > 1]
        if longer:
            rest = self._of_longer_answers(cache, mask, [answers[number] for number in longer])
            scores[:, longer] += rest
        return scores

    def _of_longer_answers(self, cache: Any, mask: Tensor, answers: list[list[int]]) -> Tensor:
        """What the tokens after each answer's first add, [questions, answers]."""
        num_questions, num_answers = len(mask), len(answers)
        rows = torch.arange(num_questions).repeat_interleave(num_answers)
        cache.batch_select_indices(self._indices(rows.tolist()))
        width = max(map(len, answers)) - 1
        ids = torch.tensor([row[:-1] + [0] * (width + 1 - len(row)) for row in answers])
        next_ids = torch.tensor([row[1:] + [0] * (width + 1 - len(row)) for row in answers])
        real = torch.tensor([[1.0] * (len(row) - 1) + [0.0] * (width + 1 - len(row))
                             for row in answers])  # fmt: skip
        ids, next_ids, real = (part.repeat(num_questions, 1) for part in (ids, next_ids, real))
        logits = self._logits(ids, torch.cat([mask[rows], real], dim=1), cache, keep=width)
        found = F.log_softmax(logits, dim=-1).gather(-1, next_ids.unsqueeze(-1)).squeeze(-1)
        return (found * real).sum(dim=1).reshape(num_questions, num_answers)

    def _logits(self, ids: Tensor, mask: Tensor, cache: Any, *, keep: int = 1) -> Tensor:
        """Logits [rows, keep, vocabulary] after the last tokens; `cache` grows by all of them."""
        device = self._model.device
        positions = (mask.long().cumsum(dim=1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.long().to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
        )
        logits: Tensor = output.logits.float().cpu()
        return logits

    def _ids(self, text: str, *, begins: bool = False) -> list[int]:
        """Tokens; only what begins a prompt gets the tokenizer's own beginning."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=begins)["input_ids"]
        return ids

    def _indices(self, rows: list[int]) -> Tensor:
        return torch.tensor(rows, device=self._model.device)

    def _check_length(self, num_tokens: int) -> None:
        longest = getattr(self._model.config, "max_position_embeddings", None)
        if longest is not None and num_tokens > longest:
            raise PipelineError(
                f"a prompt has {num_tokens} tokens, the model reads {longest}; lower "
                "prompt.max_spatial_words and max_temporal_words, or episodes.shots"
            )
