"""Pixels to latent cells and back: the first frame in square patches, the rest in tubes.

Source: arXiv:2412.10443, section 3.1.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from sweettok.geometry import ClipGeometry

NUM_CHANNELS = 3


def pixels_to_video(pixels: UInt8[Tensor, "b t h w c"]) -> Float[Tensor, "b c t h w"]:
    """Stored pixels in [0, 255] to the model's range [-1, 1], channels first, float32."""
    video = rearrange(pixels, "b t h w c -> b c t h w").to(torch.float32)
    return video.div_(127.5).sub_(1.0)


def video_to_pixels(video: Float[Tensor, "b c t h w"]) -> UInt8[Tensor, "b t h w c"]:
    """The model's range [-1, 1] (clipped) to stored pixels in [0, 255], channels last."""
    scaled = (video.float().clamp(-1, 1) + 1.0) * 127.5
    return rearrange(scaled.round().to(torch.uint8), "b c t h w -> b t h w c")


class PatchEmbedding(nn.Module):
    """Embeds a clip into latent frames: one linear map for the first frame, one for the tubes."""

    def __init__(self, geometry: ClipGeometry, width: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.first_frame = nn.Linear(_patch_size(geometry, num_frames=1), width)
        self.tubes = nn.Linear(_patch_size(geometry, num_frames=geometry.tube_frames), width)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b l y x d"]:
        """Embeds `video` in [-1, 1]; one frame gives one latent frame (image mode)."""
        patch = self.geometry.patch_px
        cut = "b c (l f) (y p) (x q) -> b l y x (f p q c)"
        first = rearrange(video[:, :, :1], "b c l (y p) (x q) -> b l y x (p q c)", p=patch, q=patch)
        latents = self.first_frame(first)
        if video.shape[2] == 1:
            return latents
        tubes = rearrange(video[:, :, 1:], cut, f=self.geometry.tube_frames, p=patch, q=patch)
        return torch.cat([latents, self.tubes(tubes)], dim=1)


class PixelHeads(nn.Module):
    """Turns latent frames into pixels: one linear head for the first frame, one for the tubes."""

    def __init__(self, geometry: ClipGeometry, width: int) -> None:
        super().__init__()
        self.geometry = geometry
        self.first_frame = nn.Linear(width, _patch_size(geometry, num_frames=1))
        self.tubes = nn.Linear(width, _patch_size(geometry, num_frames=geometry.tube_frames))

    def start_grey(self) -> None:
        """Sets both heads to zero, so that an untrained decoder gives mid-grey, not noise."""
        for head in (self.first_frame, self.tubes):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, latents: Float[Tensor, "b l y x d"]) -> Float[Tensor, "b c t h w"]:
        """Pixels of a clip, nominally in [-1, 1] (not clipped)."""
        patch = self.geometry.patch_px
        first = rearrange(
            self.first_frame(latents[:, :1]),
            "b l y x (p q c) -> b c l (y p) (x q)",
            p=patch,
            q=patch,
        )
        if latents.shape[1] == 1:
            return first
        tubes = rearrange(
            self.tubes(latents[:, 1:]),
            "b l y x (f p q c) -> b c (l f) (y p) (x q)",
            f=self.geometry.tube_frames,
            p=patch,
            q=patch,
        )
        return torch.cat([first, tubes], dim=2)


def _patch_size(geometry: ClipGeometry, *, num_frames: int) -> int:
    return num_frames * geometry.patch_px**2 * NUM_CHANNELS
