"""Parsing captions for a lexicon: counts and pairs, the parser, and what stands in for one.

spaCy's model is an optional package; only the test that needs it is skipped without.
"""

import pytest

from sweettok.errors import LexiconError
from sweettok.lexicon_building.adjacency import TaggedWord, link_neighbours
from sweettok.lexicon_building.caption_parsers import PARSER_PACKAGE, create_parser
from sweettok.lexicon_building.caption_statistics import gather_statistics
from sweettok.lexicon_building.morphology import Lemmatizer
from sweettok.lexicon_building.wordnet import WordNet
from tests.tiny_wordnet import caption, tiny_statistics, write_wordnet


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet.load(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def test_pairs_are_counted_from_the_dependencies() -> None:
    statistics = tiny_statistics()
    assert statistics.adjective_noun == {("red", "dog"): 2, ("hairy", "ball"): 1}
    assert statistics.adverb_verb == {("quickly", "run"): 2, ("down", "roll"): 1}
    assert statistics.words["adverb", "down"] == 1
    assert statistics.words["noun", "dog"] == 2
    statistics.add(caption(("dog", "NOUN", "ROOT", 0), ("red", "ADJ", "acomp", 0)))
    assert statistics.adjective_noun["red", "dog"] == 2
    statistics.update(statistics)
    assert statistics.adverb_verb["quickly", "run"] == 4


def test_the_parser_gives_lemmas_and_dependencies() -> None:
    pytest.importorskip(PARSER_PACKAGE)
    captions = ["The small red dog runs quickly.", "Two birds fell down."]
    gathered = gather_statistics(captions, create_parser("spacy", None))
    assert gathered.adjective_noun == {("small", "dog"): 1, ("red", "dog"): 1}
    assert gathered.adverb_verb == {("quickly", "run"): 1, ("down", "fall"): 1}


@pytest.mark.parametrize(
    ("tagged", "pairs"),
    [
        ("red/ADJ dog/NOUN", [("red", "dog")]),
        ("small/ADJ and/CCONJ red/ADJ toy/NOUN car/NOUN", [("small", "car"), ("red", "car")]),
        ("the/X dog/NOUN be/X red/ADJ ./PUNCT ball/NOUN", [("red", "ball")]),
        ("red/ADJ of/X dog/NOUN", []),
        ("slowly/ADV roll/VERB", [("slowly", "roll")]),
        ("roll/VERB the/X red/ADJ ball/NOUN slowly/ADV", [("red", "ball"), ("slowly", "roll")]),
        ("roll/VERB very/ADV large/ADJ ball/NOUN", [("large", "ball")]),
        ("fall/VERB down/PRT", [("down", "fall")]),
        ("fall/VERB ,/PUNCT slowly/ADV", []),
        ("run/VERB a/X b/X c/X d/X e/X slowly/ADV", []),
    ],
)
def test_neighbours_stand_in_for_dependencies(tagged: str, pairs: list[tuple[str, str]]) -> None:
    words = [TaggedWord(*token.split("/")) for token in tagged.split()]
    tokens = link_neighbours(words)
    assert [token.lemma for token in tokens] == [word.lemma for word in words]
    linked = [(token.lemma, tokens[token.head].lemma) for token in tokens if token.relation]
    assert linked == pairs


def test_words_get_their_dictionary_form(wordnet: WordNet) -> None:
    lemma = Lemmatizer(wordnet).lemma
    assert [lemma("noun", word) for word in ("dogs", "balls", "dog", "runs")] == [
        "dog",
        "ball",
        "dog",
        None,
    ]
    assert [lemma("verb", word) for word in ("runs", "ran", "rolling", "thinks", "oxen")] == [
        "run",
        "run",
        "roll",
        "think",
        None,
    ]
    assert lemma("noun", "oxen") is None  # an exception that leads to no word of this WordNet
    assert lemma("adjective", "hairiest") is None
    assert lemma("adjective", "redest") == "red"


def test_the_form_that_is_used_more_is_the_dictionary_form(wordnet: WordNet) -> None:
    rare, often = wordnet.senses["noun", "animal"], wordnet.senses["noun", "dog"]
    for senses, expected in ((rare, "ball"), (often, "balls")):
        both = WordNet(wordnet.synsets, {**wordnet.senses, ("noun", "balls"): senses})
        assert Lemmatizer(both).lemma("noun", "balls") == expected


def test_wordnet_tags_where_there_is_no_parser(wordnet: WordNet) -> None:
    parser = create_parser("wordnet", wordnet)
    gathered = gather_statistics(
        ["The red dogs ran quickly.", "A hairy ball rolls down, 2 moral ideas!"], parser
    )
    assert gathered.adjective_noun == {
        ("red", "dog"): 1,
        ("hairy", "ball"): 1,
        ("moral", "idea"): 1,
    }
    assert gathered.adverb_verb == {("quickly", "run"): 1, ("down", "roll"): 1}
    assert gathered.words["noun", "dog"] == 1
    assert "no parser" in parser.gives


def test_tagged_captions_are_read_with_any_tag_set(wordnet: WordNet) -> None:
    expected = {("red", "dog"): 1}, {("quickly", "run"): 1}
    for text in (
        "the/DT red/JJ dogs/NNS ran/VBD quickly/RB ./.",
        "The/at Red/jj dogs/nns ran/vbd quickly/rb",
        "the/DET red/ADJ dogs/NOUN ran/VERB quickly/ADV",
        "the/DET/the red/ADJ/red dogs/NOUN/dog ran/VERB/run quickly/ADV/quickly",
    ):
        gathered = gather_statistics([text], create_parser("tagged", wordnet))
        assert (gathered.adjective_noun, gathered.adverb_verb) == expected, text
    bare = gather_statistics(["red/JJ dogs/NNS Rex/NNP is/BEZ"], create_parser("tagged", None))
    assert dict(bare.words) == {("adjective", "red"): 1, ("noun", "dogs"): 1}
    with pytest.raises(LexiconError, match=r"'dog' carries no tag; write word/TAG"):
        gather_statistics(["red/JJ dog"], create_parser("tagged", None))


def test_a_parser_that_cannot_be_made_is_refused() -> None:
    for kind in ("wordnet", "stanza"):
        with pytest.raises(LexiconError, match="write spacy, tagged, or wordnet with its database"):
            create_parser(kind, None)
