"""Builds a lexicon, the words of both codebooks, from WordNet, captions and a text encoder.

    pip install -e '.[lexicon]' && apt-get install wordnet-base
    python jobs/build_lexicon.py --out lexicons/small
    python jobs/build_lexicon.py --out clip-lexicon --nouns 7000 --adjectives 1500 \\
        --text-encoder open_clip:ViT-B-32:checkpoints/clip.safetensors --captions captions.txt

The defaults build the lexicon "small" that ships with the package, byte for byte.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from sweettok.errors import SweetTokError
from sweettok.lexicon_building.assembly import LexiconRecipe, build_lexicon, read_captions
from sweettok.lexicon_building.text_encoders import create_text_encoder
from sweettok.lexicon_building.wordnet import DEFAULT_DIRECTORY, WordNet


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    summary, _, examples = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--name", help="name of the lexicon (that of the --out directory)")
    parser.add_argument("--nouns", type=int, default=704, help="number of nouns (704)")
    parser.add_argument("--adjectives", type=int, default=320, help="number of adjectives (320)")
    parser.add_argument("--verbs", type=int, default=704, help="number of verbs (704)")
    parser.add_argument("--adverbs", type=int, default=320, help="number of adverbs (320)")
    parser.add_argument(
        "--min-count", type=int, default=3, help="least occurrences of a word in the captions (3)"
    )
    parser.add_argument(
        "--text-encoder",
        default="minilm",
        metavar="SPEC",
        help="minilm, or open_clip:ARCH:PRETRAINED_TAG_OR_PATH (minilm)",
    )
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="more captions, one a line; their licence then applies to what is built",
    )
    parser.add_argument(
        "--wordnet",
        type=Path,
        default=DEFAULT_DIRECTORY,
        metavar="DIR",
        help=f"the WordNet 3.0 database ({DEFAULT_DIRECTORY})",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds the lexicon and returns the exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        recipe = LexiconRecipe.from_mapping(
            {
                "name": options.name or options.out.name,
                "num_nouns": options.nouns,
                "num_adjectives": options.adjectives,
                "num_verbs": options.verbs,
                "num_adverbs": options.adverbs,
                "min_count": options.min_count,
            },
            origin="command line",
        )
        wordnet = WordNet.load(options.wordnet)
        encoder = create_text_encoder(options.text_encoder)
        captions = read_captions(options.captions) if options.captions else None
        lexicon = build_lexicon(recipe, wordnet, encoder, captions)
        lexicon.save(options.out)
    except SweetTokError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{lexicon}\ncontent hash {lexicon.content_hash}\nwritten to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
