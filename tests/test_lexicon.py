"""The lexicon: what it refuses, that it survives the disk exactly, and what "small" promises."""

import importlib.resources
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon, Vocabulary, builtin_lexicons

NUM_HEADS, NUM_MODIFIERS, DIM = 6, 4, 5


def make_vocabulary(head: str, modifier: str, **changes: object) -> Vocabulary:
    generator = torch.Generator().manual_seed(len(head))
    fields: dict[str, object] = {
        "words": tuple(f"{head}{i}" for i in range(NUM_HEADS))
        + tuple(f"{modifier}{i}" for i in range(NUM_MODIFIERS)),
        "parts_of_speech": (head,) * NUM_HEADS + (modifier,) * NUM_MODIFIERS,
        "embeddings": torch.randn(NUM_HEADS + NUM_MODIFIERS, DIM, generator=generator),
        "edges": torch.tensor([[0, 0, 1, 3, 5], [6, 9, 7, 6, 9]]),
        "edge_counts": torch.tensor([4, 1, 2, 7, 1]),
        "word_counts": tuple(range(100, 90, -1)),
    }
    return Vocabulary(**{**fields, **changes})  # type: ignore[arg-type]


def make_lexicon(**changes: object) -> Lexicon:
    fields: dict[str, object] = {
        "name": "tiny",
        "spatial": make_vocabulary("noun", "adjective"),
        "temporal": make_vocabulary("verb", "adverb"),
        "text_encoder": "random",
        "provenance": {"sources": [{"name": "none", "licence": "none"}]},
    }
    return Lexicon(**{**fields, **changes})  # type: ignore[arg-type]


def word_pairs(vocabulary: Vocabulary) -> dict[tuple[str, str], int]:
    """The edges as word pairs with their counts: what must not change when indices do."""
    columns = zip(vocabulary.edges.T.tolist(), vocabulary.edge_counts.tolist(), strict=True)
    return {(vocabulary.words[i], vocabulary.words[j]): count for (i, j), count in columns}


def test_a_saved_lexicon_comes_back_exactly(tmp_path: Path) -> None:
    lexicon = make_lexicon()
    lexicon.save(tmp_path / "lexicon")
    loaded = Lexicon.load(tmp_path / "lexicon")
    assert (loaded.name, loaded.text_encoder) == (lexicon.name, lexicon.text_encoder)
    assert loaded.provenance == lexicon.provenance
    assert loaded.content_hash == lexicon.content_hash
    for ours, theirs in ((lexicon.spatial, loaded.spatial), (lexicon.temporal, loaded.temporal)):
        assert theirs.words == ours.words
        assert theirs.parts_of_speech == ours.parts_of_speech
        assert theirs.word_counts == ours.word_counts
        for name in ("embeddings", "edges", "edge_counts"):
            assert torch.equal(getattr(theirs, name), getattr(ours, name))
            assert getattr(theirs, name).dtype == getattr(ours, name).dtype


def test_a_vocabulary_without_counts_or_edges_comes_back(tmp_path: Path) -> None:
    bare = make_vocabulary(
        "noun",
        "adjective",
        word_counts=(),
        edges=torch.zeros(2, 0, dtype=torch.int64),
        edge_counts=torch.zeros(0, dtype=torch.int64),
    )
    make_lexicon(spatial=bare).save(tmp_path)
    loaded = Lexicon.load(tmp_path).spatial
    assert (loaded.word_counts, loaded.num_edges, loaded.edges.shape) == ((), 0, (2, 0))


def test_saving_gives_the_same_bytes_and_leaves_no_partial_file(tmp_path: Path) -> None:
    make_lexicon().save(tmp_path / "one")
    make_lexicon().save(tmp_path / "two")
    make_lexicon().save(tmp_path / "two")
    for name in ("lexicon.json", "vectors.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(list((tmp_path / "two").iterdir())) == 2


def test_the_content_hash_covers_content_and_nothing_else() -> None:
    reference = make_lexicon().content_hash
    assert make_lexicon(name="other", provenance={}, text_encoder="x").content_hash == reference
    words = make_lexicon().spatial.words
    embeddings = make_lexicon().spatial.embeddings.clone()
    embeddings[3, 2] += 0.5
    for change in (
        {"words": ("renamed", *words[1:])},
        {"parts_of_speech": ("adjective",) * len(words)},
        {"embeddings": embeddings},
        {"edges": torch.tensor([[0, 0, 1, 3, 4], [6, 9, 7, 6, 9]])},
        {"edge_counts": torch.tensor([5, 1, 2, 7, 1])},
    ):
        changed = make_lexicon(spatial=make_vocabulary("noun", "adjective", **change))
        assert changed.content_hash != reference, change


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_vectors_is_never_taken_for_the_lexicon(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    directory = tmp_path_factory.mktemp("flipped")
    lexicon = make_lexicon()
    lexicon.save(directory)
    payload = bytearray((directory / "vectors.safetensors").read_bytes())
    payload[int(position * len(payload))] ^= 1 << bit
    (directory / "vectors.safetensors").write_bytes(payload)
    try:
        loaded = Lexicon.load(directory)
    except LexiconError:
        return
    assert loaded.content_hash == lexicon.content_hash  # a blank of the header became another


def test_every_flipped_byte_of_the_data_is_refused(tmp_path: Path) -> None:
    make_lexicon().save(tmp_path)
    payload = bytearray((tmp_path / "vectors.safetensors").read_bytes())
    for offset in range(8 + int.from_bytes(payload[:8], "little"), len(payload), 7):
        flipped = payload.copy()
        flipped[offset] ^= 1
        (tmp_path / "vectors.safetensors").write_bytes(flipped)
        with pytest.raises(LexiconError):
            Lexicon.load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"noun1"', '"noun8"', "was edited"),
        ('"licence": "none"', '"licence": "free"', "was edited"),
        ('"format_version": 1', '"format_version": 2', "format version 2"),
        ('"name": "tiny"', '"nome": "tiny"', "missing or unknown: name, nome"),
        ('"name": "tiny"', '"name: "tiny"', "is not JSON"),
    ],
)
def test_an_edited_document_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    make_lexicon().save(tmp_path)
    document = tmp_path / "lexicon.json"
    assert old in document.read_text()
    document.write_text(document.read_text().replace(old, new, 1))
    with pytest.raises(LexiconError, match=message):
        Lexicon.load(tmp_path)


def test_a_missing_lexicon_or_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(LexiconError, match=r"no lexicon there .* small"):
        Lexicon.load("medium")
    make_lexicon().save(tmp_path / "tokenizer" / "lexicon")
    with pytest.raises(LexiconError, match=r"is a tokenizer.*tokenizer/lexicon.*--tokenizer"):
        Lexicon.load(tmp_path / "tokenizer")
    make_lexicon().save(tmp_path)
    (tmp_path / "vectors.safetensors").unlink()
    with pytest.raises(LexiconError, match=r"vectors\.safetensors: cannot be read"):
        Lexicon.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ()}, "none given"),
        ({"words": ("a b", *"cdefghijk")}, "'a b' is not one word"),
        ({"words": tuple("aacdefghij")}, "'a' occurs more than once"),
        ({"parts_of_speech": ("noun",) * 9}, "9 given for 10 words"),
        ({"word_counts": (1, 2)}, "2 given for 10 words"),
        ({"embeddings": torch.zeros(9, DIM)}, r"shape \(9, 5\), must be \(10, dim\)"),
        ({"embeddings": torch.zeros(10, DIM).double()}, "must be torch.float32"),
        (
            {"embeddings": torch.tensor([0.0] * 8 + [float("nan"), float("inf")])[:, None]},
            r"of 'adjective2' and 1 more: not finite; give finite numbers",
        ),
        (
            {"embeddings": torch.tensor([1.0] * 9 + [1e6])[:, None]},
            r"of 'adjective3': beyond half precision \(±65504\); normalise them",
        ),
        ({"edges": torch.zeros(5, 2, dtype=torch.int64)}, r"must be torch.int64 of \(2, edges\)"),
        ({"edges": torch.tensor([[0, 0, 1, 3, 5], [6, 9, 7, 6, 10]])}, r"must be in \[0, 9\]"),
        ({"edges": torch.tensor([[0, 0, 1, 3, 5], [6, 9, 7, 6, 5]])}, "i < j"),
        ({"edges": torch.tensor([[0, 0, 1, 3, 3], [6, 9, 7, 6, 6]])}, "unique"),
        ({"edges": torch.tensor([[0, 0, 3, 1, 5], [6, 9, 7, 6, 9]])}, "sorted"),
        ({"edge_counts": torch.tensor([4, 1, 2, 7])}, r"must be torch.int64 of \(5,\)"),
        ({"edge_counts": torch.tensor([4, 1, 2, 7, 0])}, "least is 0"),
    ],
)
def test_an_impossible_vocabulary_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(LexiconError, match=message):
        make_vocabulary("noun", "adjective", **change)


def test_a_lexicon_refuses_vocabularies_that_do_not_belong() -> None:
    with pytest.raises(LexiconError, match=r"temporal: part of speech 'adjective'"):
        make_lexicon(temporal=make_vocabulary("noun", "adjective"))
    wider = make_vocabulary("verb", "adverb", embeddings=torch.zeros(10, DIM + 1))
    with pytest.raises(LexiconError, match=r"5 wide in spatial and 6 in temporal"):
        make_lexicon(temporal=wider)


@settings(max_examples=40, deadline=None)
@given(num_words=st.integers(2, NUM_HEADS + NUM_MODIFIERS))
def test_a_subset_is_the_most_frequent_words_and_the_edges_among_them(num_words: int) -> None:
    whole = make_vocabulary("noun", "adjective")
    part = whole.subset(num_words)
    assert part.num_words == num_words
    num_nouns = part.parts_of_speech.count("noun")
    assert abs(num_nouns - num_words * NUM_HEADS / whole.num_words) < 1
    expected = whole.words[:num_nouns] + whole.words[NUM_HEADS : NUM_HEADS + num_words - num_nouns]
    assert part.words == expected
    assert word_pairs(part) == {
        pair: count for pair, count in word_pairs(whole).items() if set(pair) <= set(expected)
    }
    for index, word in enumerate(part.words):
        original = whole.words.index(word)
        assert torch.equal(part.embeddings[index], whole.embeddings[original])
        assert part.word_counts[index] == whole.word_counts[original]


@pytest.mark.parametrize("num_words", [0, 1, 11])
def test_a_subset_that_cannot_be_is_refused(num_words: int) -> None:
    message = rf"lexicon 'tiny': {num_words} spatial words asked, must be in \[2, 10\]; .*"
    with pytest.raises(LexiconError, match=message + "num_spatial_words") as refused:
        make_lexicon().subset(num_spatial=num_words, num_temporal=4)
    assert ("lexicon of more words" in str(refused.value)) == (num_words > 10)
    with pytest.raises(LexiconError, match=r"99 temporal words asked.*num_temporal_words"):
        make_lexicon().subset(num_spatial=4, num_temporal=99)


def test_repr_shows_shapes_not_data() -> None:
    shown = repr(make_lexicon())
    assert "6 nouns, 4 adjectives; embeddings (10, 5), 5 edges" in shown
    assert "tensor" not in shown
    assert "noun1" not in shown


@pytest.fixture(scope="module")
def small() -> Lexicon:
    return Lexicon.load("small")


def test_small_has_the_promised_words(small: Lexicon) -> None:
    spatial, temporal = small.spatial.parts_of_speech, small.temporal.parts_of_speech
    assert (spatial.count("noun"), spatial.count("adjective")) == (704, 320)
    assert (temporal.count("verb"), temporal.count("adverb")) == (704, 320)
    for word in small.spatial.words + small.temporal.words:
        assert word.isascii()
        assert word.isalpha()
        assert word.islower()
    assert {"dog", "car", "woman", "tree", "red", "small"} <= set(small.spatial.words)
    assert {"walk", "run", "open", "slowly", "quickly", "up"} <= set(small.temporal.words)


def test_small_has_bipartite_edges_and_no_word_without_one(small: Lexicon) -> None:
    for vocabulary in (small.spatial, small.temporal):
        first, second = vocabulary.edges
        assert int(first.max()) < 704 <= int(second.min())
        assert vocabulary.edges.unique().numel() == vocabulary.num_words
        assert vocabulary.num_edges > 2 * vocabulary.num_words
    assert ("dog", "large") in word_pairs(small.spatial)
    assert ("move", "slowly") in word_pairs(small.temporal)


def test_small_has_unit_embeddings_that_know_what_words_mean(small: Lexicon) -> None:
    for vocabulary in (small.spatial, small.temporal):
        norms = vocabulary.embeddings.norm(dim=1)
        assert torch.allclose(norms, torch.ones_like(norms), atol=2e-3)
        assert len({row.numpy().tobytes() for row in vocabulary.embeddings}) == vocabulary.num_words

    def similarity(vocabulary: Vocabulary, one: str, other: str) -> float:
        rows = vocabulary.embeddings[[vocabulary.words.index(one), vocabulary.words.index(other)]]
        return float(rows[0] @ rows[1])

    for vocabulary, word, near, far in (
        (small.spatial, "dog", "cat", "bridge"),
        (small.spatial, "car", "truck", "flower"),
        (small.spatial, "red", "blue", "wooden"),
        (small.temporal, "walk", "march", "cook"),
        (small.temporal, "slowly", "gradually", "upstairs"),
    ):
        assert similarity(vocabulary, word, near) > similarity(vocabulary, word, far) + 0.1


def test_small_ships_with_its_licence_and_stays_small(small: Lexicon) -> None:
    assert "small" in builtin_lexicons()
    directory = importlib.resources.files("sweettok") / "lexicons" / "small"
    assert "Princeton University" in (directory / "LICENSE-WordNet").read_text()
    document = json.loads((directory / "lexicon.json").read_text())
    assert document["content_sha256"] == small.content_hash
    assert all(source["licence"] for source in small.provenance["sources"])
    assert sum(len(entry.read_bytes()) for entry in directory.iterdir()) < 2_000_000


def test_small_can_be_made_tiny(small: Lexicon) -> None:
    tiny = small.subset(num_spatial=256, num_temporal=128)
    assert (tiny.spatial.num_words, tiny.temporal.num_words) == (256, 128)
    assert tiny.spatial.parts_of_speech.count("noun") == 176
    assert tiny.spatial.num_edges > 256
