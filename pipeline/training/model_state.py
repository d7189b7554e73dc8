"""A learning model's state as whole named tensors, whether its parameters are sharded or not.

What a checkpoint holds is the same for one worker, DDP and FSDP, so that a run may go on with
another of them. Gathered tensors go to CPU one by one: no device ever holds a sharded model whole.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.training.ema import MovingAverage
from pipeline.training.optimizer import ModelOptimizer
from pipeline.training.parallel import full_tensor, like, local_tensor
from pipeline.training.tensor_names import prefixed, without_prefix


def kept_weights(model: nn.Module, average: MovingAverage | None) -> dict[str, Tensor]:
    """The weights to keep, by name, on CPU: averaged ones where there are any.

    All workers call this together.
    """
    weights = _gathered(model)
    return weights if average is None else weights | average.state_tensors()


def learning_tensors(
    model: nn.Module, optimizer: ModelOptimizer, average: MovingAverage | None
) -> dict[str, Tensor]:
    """Weights, moments and averages, on CPU; all workers call this together."""
    tensors = prefixed("model", _gathered(model))
    tensors |= prefixed("optimizer", optimizer.state_tensors())
    if average is not None:
        tensors |= prefixed("average", average.state_tensors())
    return tensors


@torch.no_grad()
def load_learning_tensors(
    tensors: Mapping[str, Tensor],
    model: nn.Module,
    optimizer: ModelOptimizer,
    average: MovingAverage | None,
    *,
    num_steps: int,
) -> None:
    """Restores what `learning_tensors` gave after `num_steps` steps.

    Raises:
        PipelineError: A moment belongs to no parameter of this model.
    """
    found = without_prefix("model", tensors)
    for name, value in model.state_dict().items():
        local_tensor(value).copy_(local_tensor(like(found.pop(name), value)))
    assert not found, f"left over: {sorted(found)}"
    optimizer.load_state_tensors(without_prefix("optimizer", tensors))
    if average is not None:
        average.load_state_tensors(without_prefix("average", tensors), num_updates=num_steps)


def _gathered(model: nn.Module) -> dict[str, Tensor]:
    return {name: full_tensor(value).cpu() for name, value in model.state_dict().items()}
