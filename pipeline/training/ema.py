"""A moving average of the weights: what is evaluated and saved while training goes on."""

from __future__ import annotations

import pydantic
import torch
from torch import Tensor, nn

from pipeline.training.parallel import full_tensor, like, local_tensor
from sweettok.strict_config import StrictConfig


class EmaConfig(StrictConfig):
    """The average's memory.

    Attributes:
        decay: Share of the average that a step keeps; 0.999 averages over about 1,000 steps. Early
            in a run less is kept, (1 + n) / (10 + n) after n steps, so that the random weights of
            the beginning are soon forgotten.
    """

    decay: float = pydantic.Field(default=0.999, ge=0, lt=1)


class MovingAverage:
    """Averages a model's parameters; buffers are not averaged.

    Source: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992); the warm-up is the usual one of
    tf.train.ExponentialMovingAverage(num_updates).
    """

    def __init__(self, model: nn.Module, config: EmaConfig) -> None:
        self.config = config
        self.num_updates = 0
        self._parameters = dict(model.named_parameters())
        self._averages = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Moves the averages towards the parameters; once per optimiser step."""
        decay = min(self.config.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        torch._foreach_lerp_(
            [local_tensor(average) for average in self._averages.values()],
            [local_tensor(parameter.detach()) for parameter in self._parameters.values()],
            1 - decay,
        )

    def state_tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name, whole and on CPU; all workers call this together."""
        return {name: full_tensor(average).cpu() for name, average in self._averages.items()}

    @torch.no_grad()
    def load_state_tensors(self, tensors: dict[str, Tensor], num_updates: int) -> None:
        """Restores what `state_tensors` gave."""
        self.num_updates = num_updates
        for name, average in self._averages.items():
            local_tensor(average).copy_(local_tensor(like(tensors[name], average)))
