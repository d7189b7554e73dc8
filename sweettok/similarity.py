"""Which code is nearest: exact to a stated tolerance, in bounded memory, the same on every device.

Two codes can be equally near: exactly, where two words have one embedding, or up to the last bits,
which differ between devices, batch sizes and chunk sizes because matrix products sum in different
orders. Codes within `TIE_TOLERANCE` of the largest cosine therefore count as tied, and the lowest
id wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor

TIE_TOLERANCE = 2.0**-20  # of a cosine; ten times what float32 products of unit vectors round away
NO_CODE = -1  # the id of a latent that is not finite

_CPU_CHUNK_BYTES = 4 * 2**20  # what a core's cache holds; more is new pages at every call (LOG.md)
_BYTES_PER_SIMILARITY = 9  # float32 similarity, bool "is among the largest", int32 index


def nearest_codes(
    unit_latents: Float[Tensor, "*any e"], codes: Float[Tensor, "v e"], chunk_bytes: int
) -> Int[Tensor, "*any"]:
    """Index of the code with the largest cosine for each latent; of tied ones the lowest.

    Products are float32 whatever autocast, TF32 or reduced-precision settings say.

    Args:
        unit_latents: Latents of unit length, of any floating type.
        codes: Codes of unit length.
        chunk_bytes: Upper bound of what is held at one time, in bytes (at least one latent's row).

    Returns:
        int64 ids in [0, v), or `NO_CODE` where the latent (or any code) is not finite.
    """
    flat = unit_latents.detach().reshape(-1, unit_latents.shape[-1])
    # The first call of a custom operation imports 127 MiB of compiler: only the compiler needs it.
    search = _nearest_op if torch.compiler.is_compiling() else search_in_chunks
    ids = search(flat.float(), codes.detach().float(), chunk_bytes)
    return ids.view(unit_latents.shape[:-1])


def search_in_chunks(
    latents: Float[Tensor, "n e"], codes: Float[Tensor, "v e"], chunk_bytes: int
) -> Int[Tensor, " n"]:
    """The search itself, on float32 rows."""
    num_codes = codes.shape[0]
    if latents.device.type == "cpu":
        chunk_bytes = min(chunk_bytes, _CPU_CHUNK_BYTES)
    rows = max(1, chunk_bytes // (num_codes * _BYTES_PER_SIMILARITY))
    ids = latents.new_full((latents.shape[0],), NO_CODE, dtype=torch.int64)
    positions = torch.arange(num_codes, dtype=torch.int32, device=latents.device)
    with full_float32(latents.device.type):
        for chunk, found in zip(latents.split(rows), ids.split(rows), strict=True):
            lowest = _lowest_of_nearest(chunk @ codes.T, positions)
            found.copy_(torch.where(lowest < num_codes, lowest, NO_CODE))
    return ids


def _lowest_of_nearest(
    similarity: Float[Tensor, "r v"], positions: Int[Tensor, " v"]
) -> Int[Tensor, " r"]:
    """Lowest index within the tolerance of each row's largest; v where that is not a number."""
    threshold = similarity.amax(dim=-1, keepdim=True) - TIE_TOLERANCE
    return torch.where(similarity >= threshold, positions, len(positions)).amin(dim=-1)


@contextmanager
def full_float32(device_type: str) -> Iterator[None]:
    """Float32 matrix products as such: no autocast, no TF32, no bfloat16 passes."""
    cpu_matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    backends = (torch.backends.cuda.matmul, cpu_matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


# One opaque operation for torch.compile: precision settings and chunks stay out of the graph.
@torch.library.custom_op("sweettok::nearest_codes", mutates_args=())
def _nearest_op(latents: Tensor, codes: Tensor, chunk_bytes: int) -> Tensor:
    return search_in_chunks(latents, codes, chunk_bytes)


@_nearest_op.register_fake
def _(latents: Tensor, codes: Tensor, chunk_bytes: int) -> Tensor:  # noqa: ARG001
    return latents.new_empty((latents.shape[0],), dtype=torch.int64)
