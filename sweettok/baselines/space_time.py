"""Parts of the baselines: attention in space and time, heads to latents, lifts from codes."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sweettok.attention import PositionEmbedding, SelfBlock, grid_coordinates
from sweettok.centring import LatentCentring
from sweettok.config import SweetTokConfig

Axis = Literal["space", "time"]


class SpaceTimePosition(nn.Module):
    """Positions of latent cells in their frame and in time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell_position = PositionEmbedding(2, width)
        self.time_position = PositionEmbedding(1, width)

    def forward(
        self, num_latent_frames: int, rows: int, columns: int, device: torch.device
    ) -> Float[Tensor, "l y x d"]:
        """Embeds the positions of 1 + k latent frames of `rows` × `columns` cells."""
        times = torch.arange(num_latent_frames, device=device, dtype=torch.float32)
        cells = self.cell_position(grid_coordinates(rows, columns, device=device))
        return cells + rearrange(self.time_position(times.unsqueeze(-1)), "l d -> l () () d")


class LatentHead(nn.Module):
    """Projects features into code space and centres them, as the encoder of `SweetTok` does."""

    def __init__(self, config: SweetTokConfig, cells_per_latent: int = 1) -> None:
        super().__init__()
        self.edge = cells_per_latent
        self.norm = nn.RMSNorm(config.width)
        self.to_latent = nn.Linear(self.edge**2 * config.width, config.quantizer.code_dim)
        self.centre = LatentCentring(config.quantizer.code_dim)

    def forward(self, grid: Float[Tensor, "n y x d"]) -> Float[Tensor, "n q e"]:
        """One latent for each square of `cells_per_latent`² cells, row by row."""
        squares = "n (y p) (x q) d -> n (y x) (p q d)"
        merged = rearrange(self.norm(grid), squares, p=self.edge, q=self.edge)
        latents = self.to_latent(merged)
        centred = self.centre(rearrange(latents, "n q e -> (n q) e"))
        return rearrange(centred, "(n q) e -> n q e", n=latents.shape[0])


class CodeLift(nn.Module):
    """Lifts codes to the model's width: each to a square of `cells_per_code`² cells."""

    def __init__(self, config: SweetTokConfig, cells_per_code: int = 1) -> None:
        super().__init__()
        self.edge = cells_per_code
        self.lift = nn.Linear(config.quantizer.code_dim, self.edge**2 * config.width)

    def forward(self, codes: Float[Tensor, "n q e"], rows: int) -> Float[Tensor, "n y x d"]:
        """Cells of n grids of `rows` rows of codes."""
        unit_variance = codes * codes.shape[-1] ** 0.5
        squares = "n (y x) (p q d) -> n (y p) (x q) d"
        return rearrange(self.lift(unit_variance), squares, y=rows, p=self.edge, q=self.edge)


def space_time_blocks(
    config: SweetTokConfig, *, num_space: int, num_time: int
) -> tuple[nn.ModuleList, tuple[Axis, ...]]:
    """Self-attention blocks, those over time spread evenly among those within frames."""
    axes = interleaved(num_space, num_time)
    blocks = nn.ModuleList(
        SelfBlock(config.width, config.head_dim, causal=axis == "time") for axis in axes
    )
    return blocks, axes


def interleaved(num_space: int, num_time: int) -> tuple[Axis, ...]:
    """`num_space` times "space" and `num_time` times "time", each spread evenly."""
    places = [((index + 0.5) / num_space, "space") for index in range(num_space)]
    places += [((index + 0.75) / num_time, "time") for index in range(num_time)]
    return tuple("space" if axis == "space" else "time" for _, axis in sorted(places))


def attend_along(
    axis: Axis, block: nn.Module, latents: Float[Tensor, "b l y x d"]
) -> Float[Tensor, "b l y x d"]:
    """Applies `block` to the cells of each frame, or to each cell over time."""
    batch, _, rows, columns, _ = latents.shape
    size = {"b": batch, "y": rows, "x": columns}
    if axis == "space":
        frames = block(rearrange(latents, "b l y x d -> (b l) (y x) d"))
        return rearrange(frames, "(b l) (y x) d -> b l y x d", **size)
    over_time = block(rearrange(latents, "b l y x d -> (b y x) l d"))
    return rearrange(over_time, "(b y x) l d -> b l y x d", **size)
