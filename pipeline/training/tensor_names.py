"""States of many parts in one flat mapping of tensors: `part/name`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with `part/` before every name, detached, contiguous, on CPU."""
    return {
        f"{part}/{name}": tensor.detach().cpu().contiguous() for name, tensor in tensors.items()
    }


def without_prefix(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that `prefixed(part, …)` named, under their own names."""
    start = f"{part}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
