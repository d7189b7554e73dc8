"""Looks at a generator while it learns: held-out losses, samples, a comparison with real clips.

Knows no engine. With `torch.distributed` initialised all workers call together, and each looks at
its part of the held-out clips and draws its part of the clips that are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pydantic
import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.dataset import TokenDataset
from pipeline.generator.comparison import (
    ClipComparison,
    ComparisonConfig,
    DecodedClips,
    OriginalClips,
)
from pipeline.generator.data import TokenSource
from pipeline.generator.model import Generator, next_token_losses
from pipeline.generator.samples import Samples, decoded
from pipeline.generator.sampling import SamplingConfig, no_class, prompts, sample
from pipeline.generator.training_config import GeneratorTrainingConfig, TokenDataConfig
from pipeline.sequences.vocabulary import NO_CLASS
from pipeline.training.parallel import (
    gather_rows,
    num_workers,
    share_of_worker,
    sum_over_workers,
    worker_rank,
)
from pipeline.training.precision import autocast, autocast_dtype
from pipeline.training.seeds import seed_of
from sweettok import SweetTok
from sweettok.strict_config import StrictConfig


class GeneratorEvaluationConfig(StrictConfig):
    """When held-out clips are looked at, samples are drawn, and clips are compared.

    Attributes:
        every_steps: Steps between two looks; there is always one at the end.
        max_clips: Held-out clips, the first so many.
        num_samples: Samples drawn for the picture; 0 draws none.
        sampling: How they and the clips that are compared are drawn.
        comparison: Compares drawn clips with real ones; null: does not.
    """

    every_steps: int = pydantic.Field(default=500, ge=1)
    max_clips: int = pydantic.Field(default=256, ge=1)
    num_samples: int = pydantic.Field(default=4, ge=0)
    sampling: SamplingConfig = SamplingConfig()
    comparison: ComparisonConfig | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """What one look at a generator found; on the other workers only the losses.

    Attributes:
        losses: Mean losses of the held-out clips, in nats per token; with classes also those of the
            same clips without their class.
        comparison: Numbers by name.
        samples: Drawn clips; None if none are wanted.
    """

    losses: dict[str, float]
    comparison: dict[str, float]
    samples: Samples | None


class GeneratorEvaluation:
    """Looks at generators, always at the same clips and with the same random numbers.

    Args:
        config: What to look at.
        data: Where the tokens are.
        source: The same, opened.
        training: Batch size, precision and seed.
        device: Where the generator will be.
        has_tokenizer: Whether the token dataset carries one; without it there are losses only.
        comparisons: What compares clips.
    """

    def __init__(
        self,
        config: GeneratorEvaluationConfig,
        data: TokenDataConfig,
        source: TokenSource,
        training: GeneratorTrainingConfig,
        *,
        device: torch.device,
        has_tokenizer: bool,
        comparisons: Sequence[ClipComparison] = (),
    ) -> None:
        self.config = config
        self._dataset = data.dataset
        self._source = source
        self._training = training
        self._device = device
        self._dtype = autocast_dtype(training.precision, device)
        self._has_tokenizer = has_tokenizer
        self._comparisons = comparisons

    @torch.no_grad()
    def look(self, model: Generator) -> Look:
        """Looks at a whole model, in inference mode on the device; all workers call together."""
        samples = None
        if self.config.num_samples and self._has_tokenizer and worker_rank() == 0:
            samples = self._samples(model)
        return Look(self._held_out_losses(model), self._compared(model), samples)

    @cached_property
    def _tokenizer(self) -> SweetTok:
        """The one that made the tokens, fetched and loaded once."""
        dataset = TokenDataset.open(self._dataset.uri, storage=self._dataset.storage)
        return SweetTok.from_pretrained(dataset.tokenizer_files()).to(self._device).eval()

    def _held_out_losses(self, model: Generator) -> dict[str, float]:
        vocabulary = self._source.vocabulary
        names = ["total", "spatial", *(["temporal"] if vocabulary.num_temporal_tokens else [])]
        variants = ["", *(["_without_class"] if vocabulary.class_names else [])]
        sums = torch.zeros(len(variants), len(names), dtype=torch.float64, device=self._device)
        num_clips = self._source.num_held_out(self.config.max_clips)
        share = share_of_worker(num_clips)
        for sequences in self._source.held_out_sequences(
            share, self._training.batch_size_per_worker
        ):
            given = sequences.to(self._device)
            for row in range(len(variants)):
                if row:
                    given[:, 1] = NO_CLASS
                with autocast(self._dtype, self._device):
                    logits = model(input_ids=given[:, :-1], use_cache=False).logits
                losses = next_token_losses(logits, given, vocabulary)
                sums[row] += torch.stack([losses[name] for name in names]) * len(given)
        means = (sum_over_workers(sums) / num_clips).tolist()
        return {
            f"{name}{variant}": value
            for variant, values in zip(variants, means, strict=True)
            for name, value in zip(names, values, strict=True)
        }

    def _samples(self, model: Generator) -> Samples:
        """One sample of each of the first classes, by turns."""
        vocabulary, count = self._source.vocabulary, self.config.num_samples
        class_ids = no_class(count)
        if vocabulary.class_names:
            turns = torch.arange(count) % len(vocabulary.class_names)
            class_ids = vocabulary.first_class + turns
        drawn = self._drawn(model, class_ids, self._training.seed)
        return decoded(drawn, vocabulary, self._tokenizer)

    def _compared(self, model: Generator) -> dict[str, float]:
        settings = self.config.comparison
        if settings is None or not self._has_tokenizer:
            return {}
        source = self._source
        clip_ids, class_ids = source.held_out_clips(settings.num_clips)
        drawn = self._drawn_by_all(model, class_ids)
        if worker_rank() != 0:
            return {}
        dataset = TokenDataset.open(
            self._dataset.uri, source.held_out.version, storage=self._dataset.storage
        )
        generated = DecodedClips(drawn, source.vocabulary, self._tokenizer)
        real = OriginalClips(dataset, clip_ids, settings.storage)
        found: dict[str, float] = {}
        for compare in self._comparisons:
            found |= compare(generated, real)
        return found

    def _drawn_by_all(self, model: Generator, class_ids: Int[Tensor, " n"]) -> Int[Tensor, "n l"]:
        """A sequence of each class, drawn in equal parts by all workers and known to all."""
        size = -(-len(class_ids) // num_workers())
        mine = torch.arange(worker_rank() * size, (worker_rank() + 1) * size) % len(class_ids)
        seed = seed_of(self._training.seed, worker_rank())
        drawn = self._drawn(model, class_ids[mine], seed)
        return gather_rows(drawn, self._device).flatten(0, 1)[: len(class_ids)]

    def _drawn(
        self, model: Generator, class_ids: Int[Tensor, " n"], seed: int
    ) -> Int[Tensor, "n l"]:
        vocabulary = self._source.vocabulary
        given = prompts(vocabulary, class_ids)
        return torch.cat(list(sample(model, vocabulary, given, self.config.sampling, seed=seed)))
