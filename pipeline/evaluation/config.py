"""The settings of an evaluation."""

from __future__ import annotations

from typing import Literal

import pydantic

from pipeline.dataset.location import DatasetConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.evaluation.feature_networks import FeatureNetworkConfig
from pipeline.evaluation.protocol import ProtocolConfig
from pipeline.evaluation.subjects import TokenizerConfig
from pipeline.sources import SourceConfig
from sweettok.losses.perceptual import PerceptualConfig
from sweettok.strict_config import StrictConfig

ORIGINALS = "originals"  # what the real clips themselves are called


class GeneratedConfig(StrictConfig):
    """A set of generated clips: a folder of videos or a token dataset.

    Attributes:
        name: What the table calls it.
        videos: Where the videos are; every window of the protocol's length is a clip.
        dataset: A token dataset, decoded with the tokenizer that it carries.
        max_clips: At most so many; null takes the protocol's number.
    """

    name: str = pydantic.Field(min_length=1)
    videos: SourceConfig | None = None
    dataset: DatasetConfig | None = None
    max_clips: int | None = pydantic.Field(default=None, ge=2)

    @pydantic.model_validator(mode="after")
    def _is_one_of_both(self) -> GeneratedConfig:
        if (self.videos is None) == (self.dataset is None):
            raise ValueError(f"{self.name!r} needs either videos or dataset, and not both")
        return self


class PageConfig(StrictConfig):
    """What the HTML page plays.

    Attributes:
        row: Whose words and reconstructions are shown, by its name in the table; null takes the
            first tokenizer that has codes, or else the first row.
        beside: Rows whose reconstructions are played beside it.
        worst_clips, best_clips: So many clips of it, by PSNR; they are read and encoded once more.
        mapped_words: Of so many spatial and temporal words of each clip it is shown where their
            tokens look.
    """

    row: str | None = None
    beside: tuple[str, ...] = ()
    worst_clips: int = pydantic.Field(default=3, ge=0)
    best_clips: int = pydantic.Field(default=3, ge=0)
    mapped_words: int = pydantic.Field(default=4, ge=0)


class EvaluateConfig(StrictConfig):
    """One run of `jobs/evaluate_tokenizer.py`.

    Attributes:
        protocol: Which clips, at which size.
        source: Where the real videos are.
        tokenizers: Whose reconstructions are measured, in the table's order.
        generated: Whose generated clips are measured.
        perceptual: The perceptual distance.
        feature_networks: Networks for Fréchet distances and inception scores.
        num_resamples: Of the bootstrap of a Fréchet distance.
        num_inception_parts: Parts over which an inception score is averaged.
        batch_size: Clips that are encoded and looked at together.
        videos_per_part: Measures of so many videos are kept together; what a stopped run loses is
            less than one such part.
        shown_clips: Clips on the picture.
        report: What the page shows.
        device: "auto" takes a GPU where there is one.
        decode: How videos are decoded.
        output: Local directory of parts, results, table, picture and page.
    """

    protocol: ProtocolConfig
    source: SourceConfig
    tokenizers: tuple[TokenizerConfig, ...] = ()
    generated: tuple[GeneratedConfig, ...] = ()
    perceptual: PerceptualConfig = PerceptualConfig()
    feature_networks: tuple[FeatureNetworkConfig, ...] = ()
    num_resamples: int = pydantic.Field(default=200, ge=10)
    num_inception_parts: int = pydantic.Field(default=10, ge=1)
    batch_size: int = pydantic.Field(default=8, ge=1)
    videos_per_part: int = pydantic.Field(default=16, ge=1)
    shown_clips: int = pydantic.Field(default=4, ge=0)
    report: PageConfig = PageConfig()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    decode: DecodeConfig = DecodeConfig()
    output: str

    @pydantic.model_validator(mode="after")
    def _parts_fit(self) -> EvaluateConfig:
        if not self.tokenizers and not self.generated:
            raise ValueError("tokenizers and generated are both empty: there is nothing to measure")
        if self.generated and not self.feature_networks:
            raise ValueError("generated clips are measured by feature_networks: name one")
        labels = [row.label for row in self.tokenizers] + [row.name for row in self.generated]
        if ORIGINALS in labels:
            raise ValueError(f"no row may be called {ORIGINALS!r}: the real clips are")
        doubled = {label for label in labels if labels.count(label) > 1}
        if doubled:
            raise ValueError(
                f"two rows are called {min(doubled)!r}; give tokenizers and generated a name each"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _shown_rows_are_there(self) -> EvaluateConfig:
        labels = [row.label for row in self.tokenizers]
        for name in (self.report.row, *self.report.beside):
            if name is not None and name not in labels:
                raise ValueError(
                    f"report shows {name!r}, which is no row of tokenizers; there are "
                    f"{', '.join(map(repr, labels)) or 'none'}"
                )
        return self
