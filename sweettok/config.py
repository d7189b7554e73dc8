"""The configuration of a SweetTok model: a few dials, every other size derived from them.

`configs/train_tiny.yaml` and `configs/train_base.yaml` hold complete examples under `model:`.
"""

from __future__ import annotations

import math
from typing import Literal

import pydantic

from sweettok.geometry import ClipGeometry
from sweettok.strict_config import StrictConfig


class QueryConfig(StrictConfig):
    """How query tokens are laid over the latent grid.

    Attributes:
        cells_per_query: Edge of the square of latent cells that one query stands for: 2 means a
            query grid of half the latent grid's height and width.
        window_queries: Edge of the square group of queries that attend to their common cells:
            1 lets a query see only its own cells (as the released code does for motion), null
            lets every query see the whole latent frame.
    """

    cells_per_query: int = pydantic.Field(default=2, ge=1)
    window_queries: int | None = pydantic.Field(default=None, ge=1)


class EncoderConfig(StrictConfig):
    """Depths of the encoder and what the spatial queries read.

    Attributes:
        spatial_depth: Blocks of attention within a latent frame, each followed by a query block.
        temporal_depth: Blocks of causal attention over time, each followed by a query block.
        spatial_source: Latent frames that the spatial queries read: the mean over all (the
            released code; 0.7 dB better for clips where it was measured, LOG.md) or the first
            one (the paper's text; images in image mode then stay as good as clips).
        spatial_window_cells: Edge, in latent cells, of the windows within which the blocks of
            `spatial_depth` attend; every fourth of them, and the last, sees the whole frame. null:
            all do (the paper). Where an edge does not divide the latent grid, the next larger
            one that does is taken.
    """

    spatial_depth: int = pydantic.Field(default=8, ge=1)
    temporal_depth: int = pydantic.Field(default=4, ge=1)
    spatial_source: Literal["first", "mean"] = "mean"
    spatial_window_cells: int | None = pydantic.Field(default=None, ge=1)


class DecoderConfig(StrictConfig):
    """Depths of the decoder.

    Attributes:
        spatial_depth: Blocks that turn spatial tokens into the appearance of the first frame.
        temporal_depth: Blocks that turn temporal tokens into its changes.
        joint_depth: Blocks over the recombined latent frames, before the pixel heads.
    """

    spatial_depth: int = pydantic.Field(default=4, ge=1)
    temporal_depth: int = pydantic.Field(default=4, ge=1)
    joint_depth: int = pydantic.Field(default=4, ge=1)


class QuantizerConfig(StrictConfig):
    """The nearest-word quantiser and its losses.

    Attributes:
        codebook: What the codes are: "words" projected by the graph convolution (the paper's),
            "words_without_graph" projected each by itself, or "learned": free vectors, as many as
            there would be words.
        code_dim: Dimension of the space in which latents and words are compared.
        graph_hidden_dim: Hidden width of the two-layer graph convolution.
        commitment_weight: Weight of pulling latents to their code.
        codebook_weight: Weight of pulling codes (through the graph convolution) to their latents.
        entropy_weight: Weight of the entropy term that keeps many words in use.
        entropy_temperature: Temperature of the soft assignment in that term; a low one keeps more
            words in use (LOG.md).
        distance_chunk_bytes: Upper bound of what comparing latents with codes holds at one time
            (similarities and the search in them), in bytes; the entropy term obeys it as well.
    """

    codebook: Literal["words", "words_without_graph", "learned"] = "words"
    code_dim: int = pydantic.Field(default=64, ge=2)
    graph_hidden_dim: int = pydantic.Field(default=512, ge=1)
    commitment_weight: float = pydantic.Field(default=0.25, ge=0)
    codebook_weight: float = pydantic.Field(default=1.0, ge=0)
    entropy_weight: float = pydantic.Field(default=0.5, ge=0)
    entropy_temperature: float = pydantic.Field(default=0.02, gt=0)
    distance_chunk_bytes: int = pydantic.Field(default=256 * 2**20, ge=2**20)


class SweetTokConfig(StrictConfig):
    """Everything that defines a SweetTok model except its words and its weights.

    Attributes:
        geometry: Clip and patch sizes.
        width: Model width; a multiple of `head_dim`.
        head_dim: Width of one attention head.
        spatial_queries, temporal_queries: Query layouts.
        encoder, decoder: Their depths, and what the spatial queries read.
        quantizer: How latents become words, and what keeps all words in use.
        num_spatial_words, num_temporal_words: Codebook sizes that the lexicon must bring.
        word_dim: Dimension of the lexicon's text embeddings.
    """

    geometry: ClipGeometry = ClipGeometry()
    width: int = pydantic.Field(default=512, ge=8)
    head_dim: int = pydantic.Field(default=64, ge=2)
    spatial_queries: QueryConfig = QueryConfig()
    temporal_queries: QueryConfig = QueryConfig()
    encoder: EncoderConfig = EncoderConfig()
    decoder: DecoderConfig = DecoderConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    num_spatial_words: int = pydantic.Field(default=10_481, ge=2, le=32_768)
    num_temporal_words: int = pydantic.Field(default=11_139, ge=2, le=32_768)
    word_dim: int = pydantic.Field(default=512, ge=1)

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> SweetTokConfig:
        if self.width % self.head_dim:
            raise ValueError(f"width {self.width} must be a multiple of head_dim {self.head_dim}")
        for name in ("spatial_queries", "temporal_queries"):
            self._check_queries(name, getattr(self, name))
        return self

    def _check_queries(self, name: str, queries: QueryConfig) -> None:
        for axis, cells in (
            ("rows", self.geometry.grid_height),
            ("columns", self.geometry.grid_width),
        ):
            if cells % queries.cells_per_query:
                raise ValueError(
                    f"{name}.cells_per_query={queries.cells_per_query} must divide the latent "
                    f"grid's {cells} {axis}"
                )
            window = queries.window_queries
            if window is not None and (cells // queries.cells_per_query) % window:
                raise ValueError(
                    f"{name}.window_queries={window} must divide the query grid's "
                    f"{cells // queries.cells_per_query} {axis}"
                )

    @property
    def num_spatial_tokens(self) -> int:
        """Spatial tokens per clip (s)."""
        return self.geometry.num_cells // self.spatial_queries.cells_per_query**2

    @property
    def num_temporal_tokens(self) -> int:
        """Temporal tokens per clip (m)."""
        per_tube = self.geometry.num_cells // self.temporal_queries.cells_per_query**2
        return self.geometry.num_tubes * per_tube

    @property
    def num_tokens(self) -> int:
        """All tokens per clip."""
        return self.num_spatial_tokens + self.num_temporal_tokens

    @property
    def bits_per_clip(self) -> float:
        """Information of one clip's tokens if all words were equally likely, in bits."""
        return self.num_spatial_tokens * math.log2(
            self.num_spatial_words
        ) + self.num_temporal_tokens * math.log2(self.num_temporal_words)
