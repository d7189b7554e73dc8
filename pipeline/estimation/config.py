"""How a dry run looks at a corpus, and what it reckons with."""

from __future__ import annotations

import pydantic

from pipeline.cluster_plan import NodeShape
from sweettok.strict_config import StrictConfig


class EstimateConfig(StrictConfig):
    """Settings of `--dry-run`; a run that works does not read them.

    Attributes:
        num_videos: So many videos are decoded; all of a corpus that has no more.
        bytes_per_video: Of a larger video only a part of about this size is decoded, in bytes.
        num_encoded_clips: So many of their clips are encoded at most.
        seed: Which videos; the same seed takes the same ones of the same corpus.
        confidence: Share of all samples whose interval would hold the true value, in (0, 1).
        nodes: The cluster that the run would use; empty stands for this machine.
        price_per_hour: Of the whole cluster, in any currency; null leaves the cost out.
    """

    num_videos: int = pydantic.Field(default=16, ge=3)
    bytes_per_video: int = pydantic.Field(default=4 * 2**20, ge=2**16)
    num_encoded_clips: int = pydantic.Field(default=64, ge=1)
    seed: int = pydantic.Field(default=0, ge=0)
    confidence: float = pydantic.Field(default=0.9, gt=0, lt=1)
    nodes: tuple[NodeShape, ...] = ()
    price_per_hour: float | None = pydantic.Field(default=None, ge=0)
