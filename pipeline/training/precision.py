"""Which number format the forward pass computes in: bf16 where it is fast, float32 elsewhere."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]


def autocast_dtype(
    precision: Precision, device: torch.device, *, has_native_bf16: bool | None = None
) -> torch.dtype | None:
    """The format that matrix products run in, or None for plain float32.

    "auto" takes bf16 on CUDA devices whose hardware multiplies it. A CPU can emulate it, hundreds
    of times slower than float32, so it is used there only if asked for by name.

    Args:
        precision: What the config asks for.
        device: Where the model is.
        has_native_bf16: Whether the device multiplies bf16 in hardware; None asks it.
    """
    if precision == "fp32":
        return None
    if precision == "bf16":
        return torch.bfloat16
    if device.type != "cuda":
        return None
    if has_native_bf16 is None:
        has_native_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_native_bf16 else None


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass.

    Weights, gradients and losses stay float32; bf16 has float32's range, so no loss is scaled.
    """
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
