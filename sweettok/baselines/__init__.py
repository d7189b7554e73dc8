"""What SweetTok is measured against, with the same data, steps, parameters and bits.

    model = build_variant("flattened", config, lexicon)

tokenizer       what all baselines share: forward, encode, decode
flattened       one set of queries that reads all space-time latents, one vocabulary
patch           no queries: merged cells are quantised directly
plain_language  one vocabulary of nouns and adjectives for both kinds of tokens, no graph
vocabularies    the words that they need
variants        all of them by name

A codebook without edges or of free vectors is a setting of the tokenizer itself
(`QuantizerConfig.codebook`).
"""

from sweettok.baselines.flattened import FlattenedQueryTokenizer
from sweettok.baselines.patch import PatchTokenizer
from sweettok.baselines.plain_language import PlainLanguageTokenizer
from sweettok.baselines.tokenizer import BaselineTokenizer
from sweettok.baselines.variants import VARIANTS, build_variant, codebook_choices

__all__ = [
    "VARIANTS",
    "BaselineTokenizer",
    "FlattenedQueryTokenizer",
    "PatchTokenizer",
    "PlainLanguageTokenizer",
    "build_variant",
    "codebook_choices",
]
