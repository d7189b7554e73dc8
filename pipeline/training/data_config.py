"""Settings of the training data; `configs/train_tiny.yaml` holds a complete example."""

from __future__ import annotations

import pydantic

from pipeline.clips import ClipConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.preprocessing import PreprocessConfig
from pipeline.sources import SourceConfig
from pipeline.storage import StorageConfig
from pipeline.training.augmentation import AugmentationConfig
from sweettok.strict_config import StrictConfig


class CacheConfig(StrictConfig):
    """A directory of decoded frames, made on first use and found again afterwards.

    Attributes:
        directory: Path or URI that all nodes reach. Each corpus and recipe gets its own directory
            below it, named by a hash of both.
        storage: How a remote directory is reached.
        local_directory: Where a node keeps its copy of a remote cache; null takes the system's
            directory for temporary files.
        shard_bytes: A shard that has grown to this size is closed and the next one begun.
    """

    directory: str
    storage: StorageConfig = StorageConfig()
    local_directory: str | None = None
    shard_bytes: int = pydantic.Field(default=2**30, ge=2**20)


class ValidationConfig(StrictConfig):
    """Which videos are never trained on, and how many of their clips are looked at.

    Attributes:
        source: Videos of their own; or
        fraction: Share of the training source's videos that is held out, chosen by a hash of each
            video's id: always whole videos, the same ones whatever else is in the corpus.
        max_clips: Clips to evaluate on at most, spread evenly over all held-out ones.
        cache: Where their frames are kept; null takes `data.cache`.
    """

    source: SourceConfig | None = None
    fraction: float | None = pydantic.Field(default=None, gt=0, lt=1)
    max_clips: int = pydantic.Field(default=64, ge=1)
    cache: CacheConfig | None = None

    @pydantic.model_validator(mode="after")
    def _one_choice(self) -> ValidationConfig:
        if (self.source is None) == (self.fraction is None):
            raise ValueError("give either a source of held-out videos or a fraction, not both")
        return self


class DataConfig(StrictConfig):
    """Where training clips come from.

    Attributes:
        source: Which videos.
        clips: How they are cut; a `hop_frames` below the clip's length gives overlapping clips.
        preprocess, decode: As for tokenizing.
        augmentation: How clips vary from epoch to epoch.
        cache: Decode every video once and train from the stored frames: exact resume, any number
            of epochs. Null: decode anew in every epoch, through Ray Data; the order of clips is
            then not reproducible, and a restored run begins its epoch again.
        prefetch_batches: Batches that are made ready while the model works.
        shuffle_buffer_clips: Without a cache: clips that each worker mixes; each waits with all
            the frames that it may be cut from, about four times its own size.
        validation: Held-out videos; null evaluates on none.
    """

    source: SourceConfig
    clips: ClipConfig = ClipConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    decode: DecodeConfig = DecodeConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    cache: CacheConfig | None = None
    prefetch_batches: int = pydantic.Field(default=4, ge=1)
    shuffle_buffer_clips: int = pydantic.Field(default=256, ge=1)
    validation: ValidationConfig | None = None

    @pydantic.model_validator(mode="after")
    def _validation_has_a_cache(self) -> DataConfig:
        if self.validation is not None and self.validation_cache is None:
            raise ValueError(
                "validation needs a directory for the held-out frames: set validation.cache or "
                "cache"
            )
        return self

    @property
    def validation_cache(self) -> CacheConfig | None:
        """Where held-out frames are kept."""
        own = self.validation.cache if self.validation is not None else None
        return own or self.cache
