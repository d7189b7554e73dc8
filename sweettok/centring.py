"""Centres and scales latents per dimension, so that they do not all share one nearest word.

Latents of an untrained encoder point in nearly one direction; compared by cosine, all of them would
choose the same word (LOG.md). In training the mean and variance are those of the batch, over the
batches of all workers when training is distributed; in inference they are the running ones.

Source: Ioffe and Szegedy, arXiv:1502.03167 (without scale and shift parameters).
Differs: statistics over several workers also on CPUs, where PyTorch's `SyncBatchNorm` has none.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn.functional
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MOMENTUM = 0.05  # weight of a batch in the running statistics
EPSILON = 1e-5  # added to the variance


class LatentCentring(nn.Module):
    """Gives every dimension of the latents mean 0 and variance 1.

    Every worker must call it the same number of times per step: its statistics are exchanged by a
    collective operation, forward and backward. A worker without latents still has to call it.

    Args:
        num_dims: Dimension e of code space.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_dims: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(num_dims))
        self.register_buffer("running_var", torch.ones(num_dims))

    def forward(self, latents: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        """Centres and scales `latents`; in training, counts them in the running statistics."""
        if not self.training:
            return F.batch_norm(latents, self.running_mean, self.running_var, eps=EPSILON)
        if _num_workers() > 1:
            return self._over_workers(latents)
        return F.batch_norm(
            latents,
            self.running_mean,
            self.running_var,
            training=True,
            momentum=MOMENTUM,
            eps=EPSILON,
        )

    def _over_workers(self, latents: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
        values = latents.float()
        count = values.new_tensor([float(values.shape[0])])
        total, count = _summed(torch.cat([values.sum(0), count])).split([values.shape[1], 1])
        mean = total / count
        # The mean of squares minus the squared mean would lose digits where the mean is large.
        variance = _summed((values - mean).square().sum(0)) / count
        with torch.no_grad():
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, MOMENTUM)
            self.running_var.lerp_(unbiased, MOMENTUM)
        return ((values - mean) * (variance + EPSILON).rsqrt()).to(latents.dtype)


def _num_workers() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def _summed(statistics: Tensor) -> Tensor:
    """The sum over all workers; its gradient is summed over them as well."""
    summed: Tensor = torch.distributed.nn.functional.all_reduce(statistics)
    return summed
