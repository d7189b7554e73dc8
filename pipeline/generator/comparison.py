"""Generated clips beside real ones: the seam for Fréchet video distances and other measures.

    class MyDistance:
        def __call__(self, generated, real):
            return {"my_distance": ...}          # logged as comparison/my_distance

    fit_generator(config, comparisons=[MyDistance()])

One comparison is here: the Fréchet distance on the features of a motion network.
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
from pipeline.generator.samples import frames_of
from pipeline.proof.motion_network import load_motion_network
from pipeline.reconstruction import original_frames, stored_clips
from pipeline.sequences.vocabulary import SequenceVocabulary
from pipeline.storage import StorageConfig
from sweettok import SweetTok
from sweettok.frechet import FeatureStatistics, frechet_distance
from sweettok.patches import pixels_to_video
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

Clips = UInt8[Tensor, "b t h w 3"]

_BATCH_CLIPS = 8
_CUT_AT_ONE_TIME = 64  # setting up a decoder takes its time
_CLIPS_PER_FEATURE = 2  # a covariance of d features needs more clips than features


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
        motion_network: File of a motion network, as `jobs/compare_methods.py` leaves one, whose
            Fréchet distance is logged; null: only what a program gives `fit_generator`.
        storage: How to reach the videos that the token dataset was made from.
    """

    num_clips: int = pydantic.Field(default=256, ge=2)
    motion_network: str | None = None
    storage: StorageConfig = StorageConfig()

    def own_comparisons(self) -> list[ClipComparison]:
        """Those that the settings name.

        Raises:
            PipelineError: There is no such network, or it has too many features for the clips.
        """
        if self.motion_network is None:
            return []
        return [MotionDistance(Path(self.motion_network), self.num_clips)]


class MotionDistance:
    """Fréchet distance on the features of a motion network; no FVD, which is another network's.

    Args:
        path: As `save_motion_network` writes it.
        num_clips: So many clips of each kind there will be.

    Raises:
        PipelineError: There is no such file, or it has too many features for so many clips.
    """

    def __init__(self, path: Path, num_clips: int) -> None:
        if not path.is_file():
            raise PipelineError(
                f"evaluation.comparison.motion_network: {path} is not there; "
                "jobs/compare_methods.py trains one"
            )
        num_features = load_motion_network(path).network.to_features.out_features
        if num_clips < _CLIPS_PER_FEATURE * num_features:
            raise PipelineError(
                f"evaluation.comparison.num_clips is {num_clips}, too few for the {num_features} "
                f"features of {path}; set {_CLIPS_PER_FEATURE * num_features} or more"
            )
        self._path = path.absolute()  # workers run in other directories
        self._num_features = num_features
        self._real: FeatureStatistics | None = None

    def __call__(self, generated: Iterable[Clips], real: Iterable[Clips]) -> Mapping[str, float]:
        """`motion_frechet`; nothing, and a warning, if there are too few real clips for it."""
        if self._real is None:
            self._real = self._statistics(real)
        num_needed = _CLIPS_PER_FEATURE * self._num_features
        if self._real.num_vectors < num_needed:
            logger.warning(
                "no Fréchet distance: %d real clips were found, the %d features of %s need %d",
                self._real.num_vectors, self._num_features, self._path, num_needed,
            )  # fmt: skip
            return {}
        return {"motion_frechet": frechet_distance(self._statistics(generated), self._real)}

    @torch.no_grad()
    def _statistics(self, clips: Iterable[Clips]) -> FeatureStatistics:
        network = load_motion_network(self._path).network
        found = FeatureStatistics(self._num_features)
        for pixels in clips:
            found.update(network.features(pixels_to_video(pixels)))
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
