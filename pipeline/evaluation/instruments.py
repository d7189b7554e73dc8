"""What looks at clips and their reconstructions, batch by batch.

PSNR and SSIM are the package's own (`sweettok.metrics`, `sweettok.image_quality`): those of
training's log lines, clip by clip, equal to scikit-image's. All measures are of pixels rounded to 8
bits, as a viewer gets them, whoever made them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.evaluation.feature_networks import (
    FeatureNetwork,
    FeatureNetworkConfig,
    file_sha256,
    load_feature_network,
)
from pipeline.evaluation.subjects import Subject
from pipeline.records import stable_id
from sweettok.image_quality import ssim
from sweettok.losses.perceptual import (
    PerceptualConfig,
    PerceptualDistance,
    create_perceptual_distance,
)
from sweettok.metrics import psnr_db
from sweettok.patches import pixels_to_video, video_to_pixels

MAX_PSNR_DB = 99.0  # what an exact copy counts as, so that means stay finite
_PIXEL_RANGE = 2.0
_FORMAT = 1  # another one measures otherwise with the same settings

Pixels = UInt8[Tensor, "b t h w c"]


@dataclass(frozen=True, eq=False)
class Instruments:
    """What looks.

    Attributes:
        perceptual: The perceptual distance; None without one.
        networks: Networks for Fréchet distances.
        perceptual_files: Hash of each weight file of the perceptual distance, by its setting.
        with_classes: Also ask the networks for classes (for inception scores).
        device: Where all of them are.
        identity: Hash of everything that decides what they say.
    """

    perceptual: PerceptualDistance | None
    networks: tuple[FeatureNetwork, ...]
    perceptual_files: dict[str, str]
    with_classes: bool
    device: torch.device
    identity: str

    @classmethod
    def load(
        cls,
        perceptual: PerceptualConfig,
        networks: tuple[FeatureNetworkConfig, ...],
        *,
        with_classes: bool,
        device: torch.device,
    ) -> Instruments:
        """Loads all of them.

        Raises:
            CheckpointError, PipelineError: A weight file is missing or is not what it should be.
        """
        distance = create_perceptual_distance(perceptual)
        loaded = tuple(load_feature_network(network, device) for network in networks)
        files = {
            name: file_sha256(Path(path))
            for name, path in (("weights", perceptual.weights), ("heads", perceptual.heads))
            if path is not None
        }
        identity = stable_id(
            "instruments",
            _FORMAT,
            perceptual.model_copy(update={"weights": None, "heads": None}).to_yaml(),
            *files.values(),
            with_classes,
            *(network.metric + network.sha256 for network in loaded),
        )
        distance = None if distance is None else distance.to(device)
        return cls(distance, loaded, files, with_classes, device, identity)

    def names(self) -> dict[str, str]:
        """The measures that depend on a network, each with what it is to be called."""
        found = {f"features/{number}": network.metric for number, network in self._numbered()}
        return found | ({"perceptual": self.perceptual.name} if self.perceptual else {})

    @torch.no_grad()
    def look_at(self, pixels: Pixels) -> dict[str, Tensor]:
        """What the networks see in clips: rows of "features/k" and "probabilities/k"."""
        video = pixels_to_video(pixels.to(self.device))
        found = {}
        for number, network in self._numbered():
            found[f"features/{number}"] = network.features(video).float().cpu()
            if self.with_classes:
                found[f"probabilities/{number}"] = network.probabilities(video).float().cpu()
        return found

    @torch.no_grad()
    def compare(self, pixels: Pixels, subject: Subject) -> tuple[dict[str, Tensor], Pixels]:
        """What `subject` makes of clips: rows of every measure, and the clips it gives back.

        Raises:
            PipelineError: It gives back something else than clips of the same shape.
        """
        video = pixels_to_video(pixels.to(self.device))
        encoded = subject.tokenizer.encode(video)
        decoded = subject.tokenizer.decode(encoded)
        if decoded.shape != video.shape or not bool(decoded.isfinite().all()):
            raise PipelineError(
                f"{subject.label}: decodes {list(video.shape)} to {list(decoded.shape)}, or to "
                "values that are not finite; a tokenizer must give back finite clips of the shape "
                "that it was given"
            )
        shown = video_to_pixels(decoded)
        remade = pixels_to_video(shown.to(self.device))
        found = {
            "psnr_db": psnr_db(video, remade, _PIXEL_RANGE).clamp_max(MAX_PSNR_DB),
            "ssim": ssim(video, remade, _PIXEL_RANGE),
            "bits": encoded.bits,
        }
        if encoded.packet_bits is not None:
            found["packet_bits"] = encoded.packet_bits
        if self.perceptual is not None:
            found["perceptual"] = self.perceptual(video, remade)
        found |= {f"ids/{name}": ids.to(torch.int32) for name, ids in encoded.ids.items()}
        for number, network in self._numbered():
            found[f"features/{number}"] = network.features(remade).float()
        return {name: values.cpu() for name, values in found.items()}, shown.cpu()

    def _numbered(self) -> enumerate[FeatureNetwork]:
        return enumerate(self.networks)
