"""A plain language codebook: nouns and adjectives for all tokens, each word projected by itself.

What the motion words and the graph add is measured against it. Both kinds of tokens keep a
projection of their own, so that only the words and the edges differ from the method.

Source: the "plain language codebook" of the ablation in arXiv:2412.10443, section 4.
"""

from __future__ import annotations

from sweettok.baselines.vocabularies import nouns_and_adjectives
from sweettok.config import SweetTokConfig
from sweettok.lexicon import Lexicon
from sweettok.model import SweetTok
from sweettok.quantizer import WordQuantizer


class PlainLanguageTokenizer(SweetTok):
    """`SweetTok` whose temporal tokens are nouns and adjectives, too, without a graph.

    Args:
        config: Sizes; its codebook must be "words_without_graph".
        lexicon: Words of the sizes in `config`, as for `SweetTok`.
    """

    def __init__(self, config: SweetTokConfig, lexicon: Lexicon) -> None:
        super().__init__(config, lexicon)
        words = nouns_and_adjectives(lexicon, config.num_temporal_words)
        self.temporal_quantizer = WordQuantizer(words, config.quantizer)
