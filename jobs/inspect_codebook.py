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

from pipeline.captions import CaptionsConfig
from pipeline.codebook_inspection import cover_captions, inspect_codebook
from pipeline.errors import PipelineError
from sweettok import Lexicon, SweetTok
from sweettok.errors import SweetTokError


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
    parser.add_argument("--neighbours", type=int, default=5, help="nearest words to show (5)")
    parser.add_argument(
        "--captions", nargs="+", metavar="FILE", help="measure the coverage of these captions"
    )
    parser.add_argument("--column", default="caption", help="their column (caption)")
    parser.add_argument("--parser", default="spacy", help="spacy, wordnet or tagged (spacy)")
    parser.add_argument("--wordnet", metavar="DIR", help="the WordNet 3.0 database")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    if (options.lexicon is None) == (options.tokenizer is None):
        parser.error("give a lexicon or --tokenizer, not both")
    return options


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
            captions = CaptionsConfig(uris=options.captions, column=options.column)
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
