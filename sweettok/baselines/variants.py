"""All tokenizers of a comparison by name, of one config: equal bits, parameters within 5 %."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Int
from torch import Tensor

from sweettok.baselines.flattened import FlattenedQueryTokenizer
from sweettok.baselines.patch import PatchTokenizer
from sweettok.baselines.plain_language import PlainLanguageTokenizer
from sweettok.baselines.tokenizer import BaselineTokenizer
from sweettok.config import SweetTokConfig
from sweettok.errors import ConfigError
from sweettok.lexicon import Lexicon
from sweettok.model import SweetTok
from sweettok.tokens import Tokens

AnyTokenizer = SweetTok | BaselineTokenizer


def _decoupled(config: SweetTokConfig, lexicon: Lexicon) -> SweetTok:
    return SweetTok(config, _cut(config, lexicon))


def _flattened(config: SweetTokConfig, lexicon: Lexicon) -> FlattenedQueryTokenizer:
    return FlattenedQueryTokenizer(config, _cut(config, lexicon))


def _flattened_global(config: SweetTokConfig, lexicon: Lexicon) -> FlattenedQueryTokenizer:
    return FlattenedQueryTokenizer(config, _cut(config, lexicon), is_global=True)


def _patch(config: SweetTokConfig, lexicon: Lexicon) -> PatchTokenizer:
    return PatchTokenizer(config, _cut(config, lexicon))


def _words_without_graph(config: SweetTokConfig, lexicon: Lexicon) -> SweetTok:
    return SweetTok(_with_codebook(config, "words_without_graph"), _cut(config, lexicon))


def _plain_language(config: SweetTokConfig, lexicon: Lexicon) -> PlainLanguageTokenizer:
    plain = _with_codebook(config, "words_without_graph")
    return PlainLanguageTokenizer(plain, _cut(config, lexicon))


def _learned_codebook(config: SweetTokConfig, lexicon: Lexicon) -> SweetTok:
    return SweetTok(_with_codebook(config, "learned"), _cut(config, lexicon))


VARIANTS: Mapping[str, Callable[[SweetTokConfig, Lexicon], AnyTokenizer]] = MappingProxyType(
    {
        "decoupled": _decoupled,
        "flattened": _flattened,
        "flattened_global": _flattened_global,
        "patch": _patch,
        "words_without_graph": _words_without_graph,
        "plain_language": _plain_language,
        "learned_codebook": _learned_codebook,
    }
)


def build_variant(name: str, config: SweetTokConfig, lexicon: Lexicon) -> AnyTokenizer:
    """An untrained tokenizer to compare with the others of the same config.

    Args:
        name: One of `VARIANTS`. "decoupled" is `SweetTok` as `config` says; the three codebook
            variants are decoupled with another codebook.
        config: Sizes of the decoupled tokenizer.
        lexicon: Its words; the most frequent ones if it has more than `config` asks for.

    Raises:
        ConfigError: There is no such variant.
        LexiconError: The lexicon has too few words.
    """
    if name not in VARIANTS:
        raise ConfigError(f"variant {name!r}: must be one of {', '.join(VARIANTS)}")
    return VARIANTS[name](config, lexicon)


def codebook_choices(
    model: AnyTokenizer, tokens: Tokens
) -> dict[str, tuple[Int[Tensor, " n"], int]]:
    """For each codebook of `model`, the ids chosen from it and its number of codes."""
    spatial, temporal = tokens.spatial.flatten(), tokens.temporal.flatten()
    if isinstance(model, FlattenedQueryTokenizer):
        return {"union": (torch.cat([spatial, temporal]), model.config.num_spatial_words)}
    return {
        "spatial": (spatial, model.config.num_spatial_words),
        "temporal": (temporal, model.config.num_temporal_words),
    }


def _with_codebook(config: SweetTokConfig, codebook: str) -> SweetTokConfig:
    quantizer = config.quantizer.model_copy(update={"codebook": codebook})
    return config.model_copy(update={"quantizer": quantizer})


def _cut(config: SweetTokConfig, lexicon: Lexicon) -> Lexicon:
    wanted = (config.num_spatial_words, config.num_temporal_words)
    if wanted == (lexicon.spatial.num_words, lexicon.temporal.num_words):
        return lexicon
    return lexicon.subset(*wanted)
