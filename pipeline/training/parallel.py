"""Several workers, one model: DDP, FSDP, and the few collectives that training needs.

Everything here goes through `torch.distributed`; without an initialised process group there is one
worker, and every function does the obvious thing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

Parallelism = Literal["ddp", "fsdp"]


def num_workers() -> int:
    """Workers of the process group; 1 without one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """This worker's number, from 0."""
    return dist.get_rank() if num_workers() > 1 else 0


def share_of_worker(num_clips: int) -> range:
    """Which of the clips this worker looks at: about as many as every other, or none."""
    bounds = np.linspace(0, num_clips, num_workers() + 1).round().astype(int).tolist()
    return range(*bounds[worker_rank() :][:2])


def shard_parameters(model: nn.Module, device: torch.device) -> None:
    """Gives each worker its part of every parameter, gathered block by block when needed (FSDP).

    Must come before optimisers take the parameters. Works with nccl on GPUs and gloo on CPUs.
    """
    mesh = init_device_mesh(device.type, (num_workers(),))
    for part in model.modules():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def replicate(model: nn.Module, device: torch.device, *, has_unused_parameters: bool) -> nn.Module:
    """Averages the gradients of whole copies (DDP); the model itself for one or sharded workers.

    Buffers are not broadcast before every pass: the only ones that move are the statistics of
    `sweettok.centring`, which are those of all workers already.
    """
    if num_workers() == 1 or isinstance(model, FSDPModule):
        return model
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=has_unused_parameters,
        broadcast_buffers=False,
    )


@contextlib.contextmanager
def gradients_shared(model: nn.Module, is_last: bool) -> Iterator[None]:
    """Around the passes of one of several accumulated batches; only the last one communicates."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(is_last)
    if isinstance(model, DistributedDataParallel) and not is_last:
        with model.no_sync():
            yield
    else:
        yield


def local_tensor(tensor: Tensor) -> Tensor:
    """This worker's part of a sharded tensor (sharing its memory); the tensor itself if whole."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; all workers call this together."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def like(whole: Tensor, reference: Tensor) -> Tensor:
    """`whole`, known to every worker, on the device of `reference` and sharded like it."""
    whole = whole.to(reference.device)
    if not isinstance(reference, DTensor):
        return whole
    return distribute_tensor(whole, reference.device_mesh, reference.placements, src_data_rank=None)


def sum_over_workers(values: Tensor) -> Tensor:
    """Elementwise sum over all workers, which must call this together."""
    if num_workers() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def first_worker_s(value: float, device: torch.device) -> float:
    """The first worker's value, so that all agree on what time it is."""
    if num_workers() == 1:
        return value
    agreed = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(agreed, src=0)
    return float(agreed.item())


def gather_rows(row: Tensor, device: torch.device) -> Tensor:
    """One tensor of the same shape from each worker, [num_workers, …], on CPU."""
    if num_workers() == 1:
        return row.unsqueeze(0).cpu()
    row = row.to(device)
    rows = [torch.empty_like(row) for _ in range(num_workers())]
    dist.all_gather(rows, row)
    return torch.stack(rows).cpu()
