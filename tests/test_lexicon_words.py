"""Words for a lexicon: WordNet's files, what is visual, the candidates and the choice of them."""

from pathlib import Path

import pytest

from sweettok.errors import LexiconError
from sweettok.lexicon_building.caption_parsers import TaggedCaptions
from sweettok.lexicon_building.caption_statistics import CaptionStatistics, gather_statistics
from sweettok.lexicon_building.recipe import LexiconRecipe
from sweettok.lexicon_building.visual_words import is_suitable, visual_share
from sweettok.lexicon_building.word_candidates import (
    RankedWord,
    WordFilter,
    fill_up,
    rank_caption_words,
    rank_wordnet_words,
)
from sweettok.lexicon_building.word_selection import choose_words, one_part_of_speech_each
from sweettok.lexicon_building.word_sources import WordSources, find_candidates
from sweettok.lexicon_building.wordnet import SynsetKey, WordNet
from tests.tiny_wordnet import tiny_statistics, write_wordnet


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet.load(write_wordnet(tmp_path_factory.mktemp("wordnet")))


def test_wordnet_files_are_read(wordnet: WordNet) -> None:
    dog = wordnet.senses["noun", "dog"][0]
    assert (dog.tag_count, dog.synset.category, dog.synset.words) == (42, 5, ("dog",))
    assert dog.synset.targets("@") == (SynsetKey("noun", 20),)
    assert dog.synset.definition == "a loyal animal"
    assert dog.synset.examples == ("the small red dog runs quickly",)
    assert wordnet.senses["adjective", "red"][0].synset.words == ("red",)
    assert [sense.tag_count for sense in wordnet.senses["verb", "run"]] == [30, 10]
    assert "wild_beast" not in wordnet.words("noun")
    captions = list(wordnet.captions())
    assert captions.count("she slowly rolls the red ball") == 2
    assert captions == list(WordNet(wordnet.synsets, {}).captions())


def test_a_missing_wordnet_is_named_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(LexiconError, match=r"data\.noun missing.*wordnet-base"):
        WordNet.load(tmp_path)


@pytest.mark.parametrize(
    ("part_of_speech", "word", "share"),
    [
        ("noun", "dog", 1.0),
        ("noun", "rain", 1.0),
        ("noun", "idea", 0.0),
        ("noun", "china", 0.0),
        ("adjective", "red", 1.0),
        ("adjective", "hairy", 1.0),
        ("adjective", "moral", 0.0),
        ("verb", "run", 31 / 41.5),
        ("verb", "think", 0.0),
        ("adverb", "slowly", 1.0),
        ("adverb", "down", 1.0),
        ("adverb", "often", 0.0),
        ("adverb", "needily", 0.0),
    ],
)
def test_visual_share(wordnet: WordNet, part_of_speech: str, word: str, share: float) -> None:
    assert visual_share(wordnet, part_of_speech, word) == pytest.approx(share)


def test_a_word_of_contempt_is_not_suitable(wordnet: WordNet) -> None:
    assert is_suitable(wordnet, "noun", "dog")
    assert not is_suitable(wordnet, "noun", "brute")


def names(ranked: list[RankedWord]) -> list[str]:
    return [item.word for item in ranked]


def test_wordnet_words_are_ranked_by_visual_use(wordnet: WordNet) -> None:
    statistics = tiny_statistics()
    visual = WordFilter("visual", wordnet, statistics)

    def ranked(part: str, min_count: int) -> list[RankedWord]:
        return rank_wordnet_words(
            wordnet, statistics, part, min_count=min_count, word_filter=visual
        )

    nouns = ranked("noun", 1)
    assert [(item.word, item.num_uses) for item in nouns] == [("dog", 44), ("ball", 8)]
    assert names(ranked("noun", 2)) == ["dog"]
    assert names(ranked("verb", 1)) == ["run", "roll"]


def test_known_words_may_be_abstract_but_are_no_names_and_no_slurs(wordnet: WordNet) -> None:
    known = WordFilter("known", wordnet, CaptionStatistics())
    ranked = rank_wordnet_words(
        wordnet, CaptionStatistics(), "noun", min_count=0, word_filter=known
    )
    # Used words first; of the others, what can be seen before what cannot ("idea").
    assert names(ranked) == ["dog", "ball", "animal", "hair", "rain", "idea"]
    assert [item.num_uses for item in ranked] == [42, 7, 0, 0, 0, 0]
    assert not known.keeps("noun", "china")
    assert not known.keeps("noun", "brute")
    assert not known.keeps("verb", "dog")


def test_caption_words_are_ranked_by_their_number(wordnet: WordNet) -> None:
    captions = ["x/NN t-shirt/NN 2/NN dog/NN dog/NN", "teddy_bear/NN idea/NN idea/NN cat/NN dog/NN"]
    statistics = gather_statistics(captions, TaggedCaptions())
    for keep, min_count, expected in (
        ("all", 1, ["dog", "idea", "cat", "t-shirt", "teddy_bear"]),
        ("all", 2, ["dog", "idea"]),
        ("known", 1, ["dog", "idea"]),
        ("visual", 1, ["dog"]),
    ):
        word_filter = WordFilter(keep, wordnet, statistics)
        ranked = rank_caption_words(
            statistics, "noun", min_count=min_count, word_filter=word_filter
        )
        assert names(ranked) == expected, (keep, min_count)


def test_filling_up_never_overtakes_the_captions() -> None:
    captions = {"noun": ranked("noun", dog=3, red=1), "adjective": ranked("adjective", old=2)}
    others = {"noun": ranked("noun", dog=99, stone=50), "adjective": ranked("adjective", red=70)}
    filled = fill_up(captions, others)
    assert names(filled["noun"]) == ["dog", "red", "stone"]
    assert filled["noun"][2].score < filled["noun"][1].score
    assert names(filled["adjective"]) == ["old"]  # "red" is a noun in these captions


def ranked(part_of_speech: str, **uses: int) -> list[RankedWord]:
    return [RankedWord(word, part_of_speech, float(n), n) for word, n in uses.items()]


def test_words_without_an_edge_give_way() -> None:
    heads = ranked("noun", dog=9, stone=8, ball=7, cat=6)
    modifiers = ranked("adjective", old=9, red=8, hairy=7)
    pairs = {("red", "dog"): 3, ("hairy", "ball"): 1, ("blue", "stone"): 5, ("red", "cat"): 2}
    chosen = choose_words(heads, modifiers, pairs, num_heads=2, num_modifiers=2)
    assert [item.word for item in chosen.words] == ["dog", "ball", "red", "hairy"]
    assert chosen.edges == {(0, 2): 3, (1, 3): 1}
    assert chosen.num_unlinked == 0


def test_words_without_an_edge_stay_when_there_are_no_others() -> None:
    heads, modifiers = ranked("noun", dog=9, stone=8), ranked("adjective", old=9, red=8)
    chosen = choose_words(heads, modifiers, {("red", "stone"): 1}, num_heads=2, num_modifiers=2)
    assert [item.word for item in chosen.words] == ["dog", "stone", "old", "red"]
    assert (chosen.edges, chosen.num_unlinked) == ({(1, 3): 1}, 2)


def test_a_word_keeps_its_more_frequent_part_of_speech() -> None:
    heads = ranked("noun", orange=3, light=9)
    modifiers = ranked("adjective", orange=5, light=2, red=1, unused=0)
    heads, modifiers = one_part_of_speech_each(heads, modifiers)
    assert (names(heads), names(modifiers)) == (["light"], ["orange", "red", "unused"])


def recipe(**changes: object) -> LexiconRecipe:
    numbers = {"num_nouns": 2, "num_adjectives": 2, "num_verbs": 2, "num_adverbs": 2}
    return LexiconRecipe.from_mapping({"name": "tiny", "min_count": 1, **numbers, **changes})


def test_too_few_words_are_one_error_with_all_numbers_and_the_remedy(wordnet: WordNet) -> None:
    sources = WordSources(TaggedCaptions(), wordnet, glosses=tiny_statistics())
    wanted = recipe(num_nouns=5, num_adverbs=3)
    message = (
        r"^the sources give only 2 nouns \(5 asked\), 2 adverbs \(3 asked\); "
        r"ask for fewer, lower min_count \(1\), .* keep: known$"
    )
    with pytest.raises(LexiconError, match=message):
        find_candidates(wanted, sources)


def test_words_of_captions_need_no_wordnet_and_may_be_filled_up_from_it(wordnet: WordNet) -> None:
    captions = gather_statistics(["red/JJ cat/NN jumps/VBZ/jump away/RP"] * 2, TaggedCaptions())
    alone = recipe(
        words_from="captions",
        keep="all",
        **{f"num_{part}": 1 for part in ("nouns", "adjectives", "verbs", "adverbs")},
    )
    found = find_candidates(alone, WordSources(TaggedCaptions(), captions=captions))
    assert {part: names(items) for part, items in found.items()} == {
        "noun": ["cat"],
        "adjective": ["red"],
        "verb": ["jump"],
        "adverb": ["away"],
    }
    sources = WordSources(TaggedCaptions(), wordnet, tiny_statistics(), captions)
    filled = find_candidates(recipe(words_from="captions_then_wordnet", keep="visual"), sources)
    assert names(filled["adjective"])[0] == "red"  # the captions' own
    assert "hairy" in names(filled["adjective"])
    assert "cat" not in names(filled["noun"])  # this WordNet does not know it
    assert {"dog", "ball"} <= set(names(filled["noun"]))


def test_only_words_with_a_vector_are_candidates(wordnet: WordNet) -> None:
    sources = WordSources(TaggedCaptions(), wordnet, glosses=tiny_statistics())
    known = {"dog", "ball", "red", "hairy", "run", "roll", "quickly"}
    message = (
        r"^the sources give only 1 adverbs \(2 asked\); 1 words have no vector in miss\.npy, most "
        r"used of them down; ask for fewer, give vectors of more words, "
    )
    with pytest.raises(LexiconError, match=message):
        find_candidates(recipe(), sources, known, "miss.npy")
    assert find_candidates(recipe(), sources, {*known, "down"})["noun"][0].word == "dog"


def test_captions_that_fall_short_are_counted_and_no_refused_remedy_is_given() -> None:
    captions = gather_statistics(["red/JJ cat/NN"] * 3, TaggedCaptions())
    sources = WordSources(TaggedCaptions(), captions=captions)
    with pytest.raises(LexiconError, match=r"the 3 captions read give only 1 nouns") as refused:
        find_candidates(recipe(words_from="captions", keep="all"), sources)
    for useless in ("captions_then_wordnet", "min_count", "vector"):
        assert useless not in str(refused.value)
    empty = WordSources(TaggedCaptions(), captions=CaptionStatistics())
    with pytest.raises(LexiconError, match=r"^0 captions were given"):
        find_candidates(recipe(words_from="captions", keep="all"), empty)
