"""Training a generator without an engine: one model, its optimiser, step by step.

Knows neither Ray nor storage. With `torch.distributed` initialised, every worker of the group makes
the same calls on its own sequences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.generator.model import Generator, next_token_losses
from pipeline.generator.training_config import GeneratorTrainingConfig
from pipeline.sequences.vocabulary import NO_CLASS, SequenceVocabulary
from pipeline.training.ema import MovingAverage
from pipeline.training.model_state import (
    kept_weights,
    learning_tensors,
    load_learning_tensors,
)
from pipeline.training.optimizer import ModelOptimizer
from pipeline.training.parallel import (
    Parallelism,
    gradients_shared,
    num_workers,
    replicate,
    shard_parameters,
    sum_over_workers,
    worker_rank,
)
from pipeline.training.phases import TrainingPosition, rate_at
from pipeline.training.precision import autocast, autocast_dtype
from pipeline.training.seeds import seed_of


@dataclass(frozen=True)
class GeneratorStep:
    """What one optimiser step did.

    Attributes:
        num_steps: Steps done, this one included.
        losses: Mean cross-entropies over all workers' sequences, in nats per token.
        gradient_norm: Scalar, before clipping.
        rate: Share of the peak learning rate.
    """

    num_steps: int
    losses: dict[str, Tensor]
    gradient_norm: Tensor
    rate: float


class GeneratorTrainer:
    """Steps a generator.

    Args:
        model: The generator; moved to `device`.
        vocabulary: The layout of its ids.
        config: Steps and optimiser.
        device: Where to train.
        parallelism: How several workers share the model.

    Attributes:
        num_steps: Optimiser steps done.
        is_sharded: Whether every worker holds only its part of the state.
    """

    def __init__(
        self,
        model: Generator,
        vocabulary: SequenceVocabulary,
        config: GeneratorTrainingConfig,
        *,
        device: torch.device | str = "cpu",
        parallelism: Parallelism = "ddp",
    ) -> None:
        self.config = config
        self.vocabulary = vocabulary
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        torch.nn.Module.to(model, self.device)
        self.model = model.train()
        self.is_sharded = parallelism == "fsdp" and num_workers() > 1
        if self.is_sharded:
            shard_parameters(self.model, self.device)
        self.optimizer = ModelOptimizer(self.model, config.optimizer)
        self.average = None if config.ema is None else MovingAverage(self.model, config.ema)
        self._replica = replicate(self.model, self.device, has_unused_parameters=False)
        self.num_steps = 0

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.num_steps >= self.config.num_steps

    def step(self, batches: Sequence[Int[Tensor, "b l"]]) -> GeneratorStep:
        """One optimiser step over `accumulation_steps` batches of sequences."""
        rate = rate_at(self.config.schedule, TrainingPosition(phase_step=self.num_steps))
        # What dropout draws is a function of seed, step and worker, so a restored run repeats it.
        torch.manual_seed(seed_of(self.config.seed, self.num_steps, worker_rank()))
        self.optimizer.zero_gradients()
        parts = []
        for number, sequences in enumerate(batches):
            given = self._without_some_classes(sequences, number).to(self.device)
            with gradients_shared(self._replica, number == len(batches) - 1):
                with autocast(self.dtype, self.device):
                    logits = self._replica(input_ids=given[:, :-1], use_cache=False).logits
                losses = next_token_losses(logits, given, self.vocabulary)
                (losses["total"] / len(batches)).backward()
            parts.append({name: value.detach() for name, value in losses.items()})
        gradient_norm = self.optimizer.step(rate=rate)
        if self.average is not None:
            self.average.update()
        self.num_steps += 1
        means = {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
        shared = sum_over_workers(torch.stack(list(means.values()))) / num_workers()
        return GeneratorStep(
            self.num_steps, dict(zip(means, shared, strict=True)), gradient_norm, rate
        )

    @torch.no_grad()
    def copy_weights_to(self, model: Generator) -> None:
        """Copies the weights to keep, averaged ones if there are any; all workers call together."""
        model.load_state_dict(kept_weights(self.model, self.average), strict=True)

    def state_tensors(self) -> dict[str, Tensor]:
        """All that decides the steps to come, except `num_steps`; all workers call together."""
        return learning_tensors(self.model, self.optimizer, self.average)

    def load_state_tensors(self, tensors: Mapping[str, Tensor], num_steps: int) -> None:
        """Restores what `state_tensors` gave after `num_steps` steps."""
        load_learning_tensors(
            tensors, self.model, self.optimizer, self.average, num_steps=num_steps
        )
        self.num_steps = num_steps

    def _without_some_classes(
        self, sequences: Int[Tensor, "b l"], number: int
    ) -> Int[Tensor, "b l"]:
        """Drops classes as a pure function of seed, step, worker and batch."""
        if not self.vocabulary.class_names or not self.config.class_dropout:
            return sequences
        generator = torch.Generator().manual_seed(
            seed_of(self.config.seed, self.num_steps, worker_rank(), number)
        )
        dropped = torch.rand(len(sequences), generator=generator) < self.config.class_dropout
        changed = sequences.clone()
        changed[dropped, 1] = NO_CLASS
        return changed
