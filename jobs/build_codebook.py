"""Builds a codebook's lexicon: words from captions or WordNet, their graph and their vectors.

Nouns and adjectives become the spatial codes, verbs and adverbs the temporal ones. The same sources
give the same bytes; configs/build_codebook.yaml gives the lexicon that ships with the package.
Needs `pip install -e '.[lexicon]'`, and for WordNet `apt-get install wordnet-base`.
"""

import sys

from pipeline.cli import run_job
from pipeline.codebook_job import BuildCodebookConfig, build_codebook


def main(config: BuildCodebookConfig) -> None:
    """Builds and prints what was built."""
    lexicon = build_codebook(config)
    print(f"{lexicon}\ncontent hash {lexicon.content_hash}\nwritten to {config.output}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            BuildCodebookConfig,
            main,
            example="python jobs/build_codebook.py --config configs/build_codebook_captions.yaml "
            "--set captions.uris=[captions.parquet] --set output=runs/codebook",
        )
    )
