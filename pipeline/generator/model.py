"""The generator: a causal transformer of Hugging Face over flat token sequences.

The transformer, its cache and the sampler are the library's. What is ours is small: sizes from the
vocabulary, guidance as one forward pass over both halves of a doubled batch, and a directory that
holds everything that is needed to turn samples into video.

    generator/  config.json, model.safetensors   for LlamaForCausalLM.from_pretrained as well
                vocabulary.json                   the layout of ids
                tokenizer/                        the SweetTok tokenizer of the tokens
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pydantic
import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from pipeline.errors import PipelineError
from pipeline.sequences.vocabulary import BEGIN, END, NO_CLASS, PAD, SequenceVocabulary
from sweettok.strict_config import StrictConfig

VOCABULARY_FILE = "vocabulary.json"
TOKENIZER_DIRECTORY = "tokenizer"
_FEED_FORWARD_RATIO = 8 / 3
_HIDDEN_MULTIPLE = 32


class GeneratorConfig(StrictConfig):
    """Sizes of the transformer; vocabulary and length are those of the tokens.

    Attributes:
        width: Model width; a multiple of `head_dim`.
        head_dim: Width of one attention head.
        depth: Transformer blocks.
        attention_dropout: Dropout of attention weights in training.
    """

    width: int = pydantic.Field(default=512, ge=8)
    head_dim: int = pydantic.Field(default=64, ge=2, multiple_of=2)
    depth: int = pydantic.Field(default=12, ge=1)
    attention_dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> GeneratorConfig:
        if self.width % self.head_dim:
            raise ValueError(f"width {self.width} must be a multiple of head_dim {self.head_dim}")
        return self

    def to_llama(self, vocabulary: SequenceVocabulary) -> LlamaConfig:
        """The library's configuration."""
        hidden = max(1, round(self.width * _FEED_FORWARD_RATIO / _HIDDEN_MULTIPLE))
        return LlamaConfig(
            vocab_size=vocabulary.size,
            hidden_size=self.width,
            intermediate_size=hidden * _HIDDEN_MULTIPLE,
            num_hidden_layers=self.depth,
            num_attention_heads=self.width // self.head_dim,
            num_key_value_heads=self.width // self.head_dim,
            head_dim=self.head_dim,
            max_position_embeddings=vocabulary.length,
            attention_dropout=self.attention_dropout,
            pad_token_id=PAD,
            bos_token_id=BEGIN,
            eos_token_id=END,
            tie_word_embeddings=False,
        )


class Generator(LlamaForCausalLM):
    """`LlamaForCausalLM` that can guide itself.

    Attributes:
        guidance: Scale of classifier-free guidance in inference; 1 is none. Above 1 every sequence
            is computed twice, with its class and with none, in one batch with one cache; the logits
            are those without plus `guidance` times the difference.

    Source: Ho and Salimans, arXiv:2207.12598, here on logits as usual for token models.
    """

    guidance: float = 1.0

    def forward(self, input_ids: Int[Tensor, "b l"], **arguments: Any) -> CausalLMOutputWithPast:
        """As the base class; with guidance, logits of the b sequences from 2b computed ones."""
        if self.guidance == 1.0:
            return super().forward(input_ids=input_ids, **arguments)
        without = input_ids.clone()
        if without.shape[1] > 1:  # a prompt, with the class in its second place
            without[:, 1] = NO_CLASS
        count = len(input_ids)
        doubled = {
            name: torch.cat([value, value])
            if isinstance(value, Tensor) and value.ndim > 1 and len(value) == count
            else value
            for name, value in arguments.items()
        }
        found = super().forward(input_ids=torch.cat([input_ids, without]), **doubled)
        conditional, unconditional = found.logits.chunk(2)
        found.logits = unconditional + self.guidance * (conditional - unconditional)
        return found


def create_generator(
    config: GeneratorConfig, vocabulary: SequenceVocabulary, *, seed: int = 0
) -> Generator:
    """A generator with random weights that depend on `seed` alone."""
    torch.manual_seed(seed)
    return Generator(config.to_llama(vocabulary))


def save_generator(
    model: Generator,
    vocabulary: SequenceVocabulary,
    directory: Path,
    *,
    tokenizer: Path | None = None,
) -> None:
    """Writes model, vocabulary and the tokenizer's files."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(directory)
    text = json.dumps(vocabulary.to_mapping(), indent=2) + "\n"
    (directory / VOCABULARY_FILE).write_text(text, encoding="utf-8")
    if tokenizer is not None:
        shutil.copytree(tokenizer, directory / TOKENIZER_DIRECTORY, dirs_exist_ok=True)


def load_generator(directory: str | Path) -> tuple[Generator, SequenceVocabulary]:
    """Reads what `save_generator` wrote, in inference mode.

    Raises:
        PipelineError: There is no generator, or a part of it is missing.
    """
    path = Path(directory) / VOCABULARY_FILE
    if not path.is_file():
        raise PipelineError(
            f"{directory}: holds no generator ({VOCABULARY_FILE} is missing); train one with "
            "jobs/train_generator.py"
        )
    vocabulary = SequenceVocabulary.from_mapping(json.loads(path.read_text("utf-8")))
    transformers.utils.logging.disable_progress_bar()
    try:
        model = Generator.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{directory}: the generator cannot be loaded: {error}") from error
    if model.config.vocab_size != vocabulary.size:
        raise PipelineError(
            f"{directory}: the model has {model.config.vocab_size} ids, its vocabulary "
            f"{vocabulary.size}; the files are not of one generator"
        )
    return model.eval(), vocabulary


def next_token_losses(
    logits: Float[Tensor, "b p v"], sequences: Int[Tensor, "b l"], vocabulary: SequenceVocabulary
) -> dict[str, Float[Tensor, ""]]:
    """Mean cross-entropies of the tokens, in nats per token: all, spatial and temporal ones.

    Args:
        logits: Predictions after each place but the last (p = l - 1).
        sequences: Whole sequences; begin, class and end are given, not learned.
        vocabulary: Where the tokens stand.
    """
    first = 2
    last = first + vocabulary.num_spatial_tokens + vocabulary.num_temporal_tokens
    predicted = logits[:, first - 1 : last - 1].float().flatten(0, 1)
    targets = sequences[:, first:last]
    losses = torch.nn.functional.cross_entropy(predicted, targets.flatten(), reduction="none")
    by_place = losses.view_as(targets)
    spatial = by_place[:, : vocabulary.num_spatial_tokens]
    temporal = by_place[:, vocabulary.num_spatial_tokens :]
    return {
        "total": by_place.mean(),
        "spatial": spatial.mean(),
        **({"temporal": temporal.mean()} if temporal.numel() else {}),
    }
