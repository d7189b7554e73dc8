"""Draws samples from a generator: what `jobs/generate.py` runs.

samples/     one mp4 per sample
samples.png  a contact sheet
tokens/      the samples as a token dataset, which carries the tokenizer
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import pydantic
import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.dataset import DatasetConfig, Lineage
from pipeline.errors import PipelineError
from pipeline.generator.data import TokenSource
from pipeline.generator.model import TOKENIZER_DIRECTORY, load_generator
from pipeline.generator.samples import Samples, decoded
from pipeline.generator.sampling import (
    SamplingConfig,
    no_class,
    prompts,
    sample,
    sampling_device,
)
from pipeline.generator.training_config import TokenDataConfig
from pipeline.records import stable_id
from pipeline.sequences.vocabulary import SequenceVocabulary
from sweettok import SweetTok
from sweettok.strict_config import StrictConfig
from sweettok.tokenizer_manifest import read_manifest

logger = logging.getLogger(__name__)


class ContinuationConfig(StrictConfig):
    """Frame prediction: the beginnings of clips that samples continue.

    Attributes:
        dataset: Token dataset with the clips, made by the generator's tokenizer.
        num_tubes: Tubes that are given after the first frame.
        filters: Which clips, as [[column, operator, value], …].
    """

    dataset: DatasetConfig
    num_tubes: int = pydantic.Field(default=0, ge=0)
    filters: list[tuple[str, str, str | int | float]] | None = None


class GenerateConfig(StrictConfig):
    """One run of `jobs/generate.py`.

    Attributes:
        generator: Directory of a trained generator.
        num_samples: Samples to draw.
        classes: Their classes, by turns; empty: no class.
        continuation: Clips whose first frames are given; null draws from nothing.
        sampling: How tokens are drawn.
        seed: Seed of all draws.
        fps: Frames per second of the videos.
        device: "auto": a GPU if there is one.
        output: Directory for videos, picture and token dataset.
    """

    generator: str
    num_samples: int = pydantic.Field(default=16, ge=1)
    classes: tuple[str, ...] = ()
    continuation: ContinuationConfig | None = None
    sampling: SamplingConfig = SamplingConfig()
    seed: int = pydantic.Field(default=0, ge=0)
    fps: float = pydantic.Field(default=8.0, gt=0)
    device: str = "auto"
    output: str


@dataclass(frozen=True)
class Generated:
    """What was drawn.

    Attributes:
        output: Directory.
        num_samples: Samples in it.
        tokens_per_s: Tokens drawn per second, decoding to pixels left out.
    """

    output: Path
    num_samples: int
    tokens_per_s: float

    def line(self) -> str:
        """The result for people."""
        return (
            f"{self.num_samples} samples ({self.tokens_per_s:,.0f} tokens/s): "
            f"{self.output / 'samples'}, {self.output / 'samples.png'}, {self.output / 'tokens'}"
        )


def generate(config: GenerateConfig) -> Generated:
    """Draws, decodes and writes samples; the same settings give the same tokens.

    Raises:
        PipelineError: The generator is incomplete, a class is unknown, or clips do not fit it.
    """
    device = sampling_device(config.device)
    model, vocabulary = load_generator(config.generator)
    torch.nn.Module.to(model, device)
    tokenizer_directory = Path(config.generator) / TOKENIZER_DIRECTORY
    if not tokenizer_directory.is_dir():
        raise PipelineError(
            f"{config.generator}: was trained without a tokenizer ({TOKENIZER_DIRECTORY}/ is "
            "missing), so its samples cannot be decoded; copy the token dataset's tokenizer there"
        )
    given = _given(config, vocabulary)
    began_s = time.perf_counter()
    parts = []
    for part in sample(model, vocabulary, given, config.sampling, seed=config.seed):
        parts.append(part)
        logger.info("%d of %d samples", sum(map(len, parts)), len(given))
    sequences = torch.cat(parts)
    num_drawn = len(given) * (vocabulary.length - given.shape[1])
    tokens_per_s = num_drawn / (time.perf_counter() - began_s)
    tokenizer = SweetTok.from_pretrained(tokenizer_directory).to(device).eval()
    samples = decoded(sequences, vocabulary, tokenizer)
    output = Path(config.output)
    _write(config, samples, tokenizer, tokenizer_directory, output)
    return Generated(output, len(sequences), tokens_per_s)


def _given(config: GenerateConfig, vocabulary: SequenceVocabulary) -> Int[Tensor, "n p"]:
    count = config.num_samples
    class_ids = no_class(count)
    if config.classes:
        names = [config.classes[number % len(config.classes)] for number in range(count)]
        class_ids = torch.tensor([vocabulary.class_id(name) for name in names])
    if config.continuation is None:
        return prompts(vocabulary, class_ids)
    wanted = config.continuation
    source = TokenSource.open(TokenDataConfig(dataset=wanted.dataset, filters=wanted.filters))
    clips = torch.cat(list(source.held_out_sequences(range(source.num_held_out(count)), count)))
    tokens, _ = source.vocabulary.to_tokens(clips)
    beginnings = vocabulary.to_sequences(tokens)
    repeated = beginnings[torch.arange(count) % len(beginnings)]
    return prompts(vocabulary, class_ids, repeated, wanted.num_tubes)


def _write(
    config: GenerateConfig,
    samples: Samples,
    tokenizer: SweetTok,
    tokenizer_directory: Path,
    output: Path,
) -> None:
    output.mkdir(parents=True, exist_ok=True)
    samples.write_videos(output / "samples", config.fps)
    samples.sheet().save(output / "samples.png")
    settings = config.to_mapping()
    del settings["output"]
    run_id = f"generated-{stable_id(json.dumps(settings, sort_keys=True))[:12]}"
    samples.write_dataset(
        str(output / "tokens"),
        _lineage(tokenizer, tokenizer_directory),
        tokenizer_directory,
        run_id=run_id,
        fps=config.fps,
    )


def _lineage(tokenizer: SweetTok, directory: Path) -> Lineage:
    """That of generated tokens: the tokenizer's, and no video was ever decoded."""
    model = tokenizer.config
    return Lineage(
        weights_hash=read_manifest(directory)["fingerprint"],
        codebook_hash=tokenizer.lexicon.content_hash,
        geometry=model.geometry,
        num_spatial_tokens=model.num_spatial_tokens,
        num_temporal_tokens=model.num_temporal_tokens,
        num_spatial_words=model.num_spatial_words,
        num_temporal_words=model.num_temporal_words,
        preprocessing={},
        clip_policy={},
        decoder="generator",
        precision="fp32",
    )
