"""Generated clips beside real ones: the seam for Fréchet video distances and other measures.

    class MyDistance:
        def __call__(self, generated, real):
            return {"my_distance": ...}          # logged as comparison/my_distance

    fit_generator(config, comparisons=[MyDistance()])

One comparison is here: the Fréchet distance on the features of a network (FVD on those of an I3D).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pydantic
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.evaluation.feature_networks import FeatureNetworkConfig, load_feature_network
from pipeline.generator.samples import frames_of
from pipeline.reconstruction import original_frames, stored_clips
from pipeline.sequences.vocabulary import SequenceVocabulary
from pipeline.storage import StorageConfig
from sweettok import SweetTok
from sweettok.frechet import (
    VECTORS_PER_FEATURE,
    FeatureStatistics,
    frechet_distance,
    has_enough_vectors,
)
from sweettok.patches import pixels_to_video
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

Clips = UInt8[Tensor, "b t h w 3"]

_NAMES = {"motion": "motion_frechet", "i3d": "fvd"}
_BATCH_CLIPS = 8
_CUT_AT_ONE_TIME = 64  # setting up a decoder takes its time


class ClipComparison(Protocol):
    """Says in numbers how generated clips differ from real ones.

    One object serves a whole run. It is pickled on its way to the first worker, where it is called
    at every evaluation: keep settings and paths in it, and load networks when it is called. Real
    clips are the same at every call, so what was made of them may be kept.
    """

    def __call__(self, generated: Iterable[Clips], real: Iterable[Clips]) -> Mapping[str, float]:
        """Finite numbers by name, for the log; none if there is nothing to say.

        Args:
            generated: Drawn clips, batch by batch, with the classes of the real ones.
            real: Held-out clips as they were cut from their videos. Both are decoded while they are
                gone through, as often as they are, and never held as a whole. There are fewer real
                clips than asked for where videos are gone.
        """


class ComparisonConfig(StrictConfig):
    """Which clips are compared, and how.

    Attributes:
        num_clips: Clips of each kind: the first held-out ones, and as many drawn ones. Distances
            depend on it; compare only those of equal numbers.
        feature_networks: Networks whose Fréchet distances are logged: "fvd" of an I3D,
            "motion_frechet" of a motion network, as `jobs/compare_methods.py` leaves one. Without
            any there is only what a program gives `fit_generator`.
        storage: How to reach the videos that the token dataset was made from.
    """

    num_clips: int = pydantic.Field(default=256, ge=2)
    feature_networks: tuple[FeatureNetworkConfig, ...] = ()
    storage: StorageConfig = StorageConfig()

    def own_comparisons(self) -> list[ClipComparison]:
        """Those that the settings name.

        Raises:
            PipelineError: There is no such network, or it has too many features for the clips.
        """
        return [FeatureDistance(network, self.num_clips) for network in self.feature_networks]


class FeatureDistance:
    """Fréchet distance on the features of a network.

    Args:
        config: Which network.
        num_clips: So many clips of each kind there will be.

    Raises:
        PipelineError: There is no such file, or it has too many features for so many clips.
    """

    def __init__(self, config: FeatureNetworkConfig, num_clips: int) -> None:
        num_features = load_feature_network(config, torch.device("cpu")).num_features
        if num_features is not None and not has_enough_vectors(num_clips, num_features):
            raise PipelineError(
                f"evaluation.comparison.num_clips is {num_clips}, too few for the {num_features} "
                f"features of {config.path}; set {VECTORS_PER_FEATURE * num_features} or more"
            )
        # Workers run in other directories.
        self._config = config.model_copy(update={"path": str(Path(config.path).absolute())})
        self._real: FeatureStatistics | None = None

    def __call__(self, generated: Iterable[Clips], real: Iterable[Clips]) -> Mapping[str, float]:
        """One distance; nothing, and a warning, if there are too few real clips for it."""
        if self._real is None:
            self._real = self._statistics(real)
        if self._real is None or not has_enough_vectors(
            self._real.num_vectors, self._real.num_features
        ):
            logger.warning(
                "no Fréchet distance on %s: too few real clips were found (%r)",
                self._config.path, self._real,
            )  # fmt: skip
            return {}
        drawn = self._statistics(generated)
        assert drawn is not None, "clips are drawn where there are real ones"
        return {_NAMES[self._config.kind]: frechet_distance(drawn, self._real)}

    def _statistics(self, clips: Iterable[Clips]) -> FeatureStatistics | None:
        """Those of the clips' features; None without clips."""
        network = load_feature_network(self._config, torch.device("cpu"))
        found: FeatureStatistics | None = None
        for pixels in clips:
            features = network.features(pixels_to_video(pixels))
            found = found or FeatureStatistics(features.shape[1])
            found.update(features)
        return found


@dataclass(frozen=True, eq=False)
class DecodedClips:
    """Drawn sequences as pixels, decoded batch by batch, anew each time they are gone through.

    Attributes:
        sequences: Legal ones.
        vocabulary: Their layout.
        tokenizer: In inference mode.
    """

    sequences: Int[Tensor, "n l"]
    vocabulary: SequenceVocabulary
    tokenizer: SweetTok

    def __iter__(self) -> Iterator[Clips]:
        for part in self.sequences.split(_BATCH_CLIPS):
            tokens, _ = self.vocabulary.to_tokens(part)
            yield torch.from_numpy(frames_of(tokens, self.tokenizer))


@dataclass(frozen=True, eq=False)
class OriginalClips:
    """Clips cut again from the videos that they came from, each time they are gone through.

    A clip whose video is gone or was changed is left out, with a warning.

    Attributes:
        dataset: The token dataset, at the version that holds them.
        clip_ids: Which clips.
        storage: How to reach the videos.
    """

    dataset: TokenDataset
    clip_ids: Sequence[str]
    storage: StorageConfig

    def __iter__(self) -> Iterator[Clips]:
        stored = stored_clips(self.dataset, clip_ids=self.clip_ids)
        by_video = sorted(stored, key=lambda clip: (clip.video_id, clip.clip_index))
        for first in range(0, len(by_video), _CUT_AT_ONE_TIME):
            clips = by_video[first : first + _CUT_AT_ONE_TIME]
            frames = original_frames(self.dataset, clips, self.storage)
            if frames:
                pixels = torch.from_numpy(np.stack(list(frames.values())))
                yield from pixels.split(_BATCH_CLIPS)
