"""Shows a codebook: words, graph, nearest words, and its coverage of captions.

    python jobs/inspect_codebook.py small
    python jobs/inspect_codebook.py runs/codebook_full --words dog red run --neighbours 10
    python jobs/inspect_codebook.py --tokenizer runs/tokenizer --captions captions.parquet --json

A lexicon is the name of one that ships with the package or a directory of jobs/build_codebook.py.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pipeline.captions import CaptionsConfig
from pipeline.codebook_inspection import cover_captions, inspect_codebook
from pipeline.errors import PipelineError
from sweettok import Lexicon, SweetTok
from sweettok.errors import SweetTokError
from sweettok.lexicon import builtin_lexicons
from sweettok.tokenizer_manifest import MANIFEST_FILE

MAX_NEIGHBOURS = 1000


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lexicon", nargs="?", help="its name or directory")
    parser.add_argument(
        "--tokenizer", metavar="DIR", help="a trained tokenizer: its words, compared by their codes"
    )
    parser.add_argument(
        "--words", nargs="+", default=[], metavar="WORD", help="show what is nearest to these"
    )
    parser.add_argument(
        "--neighbours",
        type=_num_neighbours,
        default=5,
        metavar="N",
        help=f"nearest words to show, 1 to {MAX_NEIGHBOURS} (5)",
    )
    parser.add_argument(
        "--captions", nargs="+", metavar="FILE", help="measure the coverage of these captions"
    )
    parser.add_argument("--column", default="caption", help="their column (caption)")
    formats = get_args(get_args(CaptionsConfig.model_fields["format"].annotation)[0])
    parser.add_argument("--format", choices=formats, help="their format (by the suffix)")
    parser.add_argument(
        "--parser", choices=("spacy", "wordnet", "tagged"), default="spacy", help="(spacy)"
    )
    parser.add_argument("--wordnet", metavar="DIR", help="the WordNet 3.0 database")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    fault = _fault(options)
    if fault:
        parser.error(fault)
    return options


def _num_neighbours(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_NEIGHBOURS:
        raise argparse.ArgumentTypeError(f"{text}: must be a number from 1 to {MAX_NEIGHBOURS}")
    return int(text)


def _fault(options: argparse.Namespace) -> str:
    """What is wrong with options that do not go together; empty if nothing is."""
    if options.lexicon is None and options.tokenizer is None:
        shipped = ", ".join(builtin_lexicons())
        after = " before --words or --captions" if options.words or options.captions else ""
        return (
            f"give a lexicon{after} ({shipped}, or a directory of jobs/build_codebook.py), or "
            "--tokenizer DIR"
        )
    if options.lexicon is not None and options.tokenizer is not None:
        return (
            f"lexicon {options.lexicon} and --tokenizer {options.tokenizer} are both given; a "
            "tokenizer has its own lexicon: give one of them"
        )
    is_shipped = options.lexicon in builtin_lexicons()
    if options.lexicon and not is_shipped and (Path(options.lexicon) / MANIFEST_FILE).is_file():
        return f"{options.lexicon} is a tokenizer; write --tokenizer {options.lexicon}"
    if options.parser == "wordnet" and options.wordnet is None:
        return "--parser wordnet needs --wordnet DIR (Debian's wordnet-base: /usr/share/wordnet)"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        tokenizer = SweetTok.from_pretrained(options.tokenizer) if options.tokenizer else None
        lexicon = tokenizer.lexicon if tokenizer else Lexicon.load(options.lexicon)
        report = inspect_codebook(
            lexicon, tokenizer, options.words, num_neighbours=options.neighbours
        )
        if options.captions:
            captions = CaptionsConfig(
                uris=options.captions, column=options.column, format=options.format
            )
            report = cover_captions(
                report,
                lexicon,
                captions,
                parser=options.parser,
                wordnet_directory=options.wordnet,
            )
    except (PipelineError, SweetTokError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report.to_mapping(), ensure_ascii=False, indent=1))
    else:
        print(*report.lines(), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
