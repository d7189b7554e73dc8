"""Builds a codebook's lexicon: words from captions or WordNet, their graph and their vectors.

Nouns and adjectives become the spatial codes, verbs and adverbs the temporal ones. The same sources
give the same bytes; configs/build_codebook.yaml gives the two files that ship with the package.
Starting it again does nothing; other settings or changed sources need another output.

text_encoder is minilm, open_clip:ARCH:PRETRAINED_TAG_OR_PATH, or vectors:FILE. FILE is a .npy array
of shape (words, dim), or a .safetensors file with one such tensor named "vectors"; its words lie
beside it, FILE's name ending in .json (["dog", "red"]) or .txt (one word a line).

Needs `pip install -e '.[lexicon]'`, and for WordNet `apt-get install wordnet-base`.
"""

import sys

from pipeline.cli import run_job
from pipeline.codebook_job import BuildCodebookConfig, build_codebook


def main(config: BuildCodebookConfig) -> None:
    """Builds and prints what was built."""
    build = build_codebook(config)
    done = "written to" if build.is_new else "was built before; nothing to do:"
    print(f"{build.lexicon}\ncontent hash {build.lexicon.content_hash}\n{done} {build.output}")


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
