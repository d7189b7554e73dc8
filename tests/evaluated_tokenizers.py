"""Tokenizers of somebody else, as an evaluation is given them, and an I3D in TorchScript."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from pipeline.evaluation.tokenizers import EncodedClips, Video


class LevelTokenizer:
    """The mean brightness of every square of 8 px, in 16 levels; notes every clip in a file.

    Args:
        log: File that gets a line for every batch; None notes nothing.
        fails_at: Raises when so many clips were encoded before.
    """

    codebook_sizes: Mapping[str, int] = {"levels": 16}

    def __init__(self, log: str | None = None, fails_at: int | None = None) -> None:
        self._log = None if log is None else Path(log)
        self._fails_at = fails_at
        self._num_seen = 0

    def encode(self, video: Video) -> EncodedClips:
        if self._fails_at is not None and self._num_seen >= self._fails_at:
            raise KeyboardInterrupt
        self._num_seen += len(video)
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{len(video)}\n")
        means = reduce(video, "b c t (y p) (x q) -> b t y x", "mean", p=8, q=8)
        levels = ((means + 1) * 8).long().clamp(0, 15)
        ids = {"levels": rearrange(levels, "b t y x -> b (t y x)")}
        encoded = EncodedClips.of_ids(ids, self.codebook_sizes)
        return EncodedClips(encoded.bits, encoded.ids, levels)

    def decode(self, encoded: EncodedClips) -> Video:
        values = (encoded.content + 0.5) / 8 - 1
        large = values.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
        return large.unsqueeze(1).expand(-1, 3, -1, -1, -1)


class WrongShape(LevelTokenizer):
    """Gives one frame too few."""

    def decode(self, encoded: EncodedClips) -> Video:
        return super().decode(encoded)[:, :, 1:]


class NotFinite(LevelTokenizer):
    """Gives what no picture is."""

    def decode(self, encoded: EncodedClips) -> Video:
        return super().decode(encoded) * float("nan")


class SmallI3d(nn.Module):
    """Called as the I3D of Fréchet video distances is; features are a few means of the pixels."""

    def forward(
        self,
        video: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        assert rescale
        assert resize
        if video.shape[2] < 4:
            raise ValueError("clips must have 4 frames or more")
        scaled = video / 255
        means = torch.stack([scaled.mean(dim=[1, 2, 3, 4]), scaled[:, 0].mean(dim=[1, 2, 3])], 1)
        if return_features:
            return means
        return 9 * torch.cat([means, -means], dim=1)


def save_small_i3d(path: Path) -> Path:
    """Writes the TorchScript file."""
    torch.jit.script(SmallI3d()).save(str(path))
    return path
