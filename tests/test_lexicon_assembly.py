"""Lexicons put together from WordNet and captions, through the library and through the job."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.codebook_job import BuildCodebookConfig, build_codebook, codebook_recipe
from pipeline.errors import PipelineError
from sweettok.errors import ConfigError, LexiconError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.assembly import assemble_lexicon, build_lexicon
from sweettok.lexicon_building.caption_parsers import PARSER_PACKAGE, SpacyParser, create_parser
from sweettok.lexicon_building.recipe import PARTS_OF_SPEECH, LexiconRecipe
from sweettok.lexicon_building.word_sources import WordSources
from sweettok.lexicon_building.wordnet import WordNet
from sweettok.strict_config import load_config
from tests.job_runs import REPOSITORY, run_plain, write_config
from tests.tiny_wordnet import LetterCounts, tiny_statistics, write_wordnet

TAGGED_CAPTIONS = [
    "A/DT hairy/JJ red/JJ dog/NN slowly/RB rolls/VBZ down/RP",
    "Red/JJ rain/NN fell/VBD/fall down/RP",
    "A/DT red/JJ ball/NN runs/VBZ/run",
]


@pytest.fixture(scope="module")
def wordnet_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wordnet(tmp_path_factory.mktemp("wordnet"))


@pytest.fixture(scope="module")
def wordnet(wordnet_directory: Path) -> WordNet:
    return WordNet.load(wordnet_directory)


def recipe(**changes: object) -> LexiconRecipe:
    numbers = {"num_nouns": 2, "num_adjectives": 2, "num_verbs": 2, "num_adverbs": 2}
    return LexiconRecipe.from_mapping({"name": "tiny", "min_count": 1, **numbers, **changes})


def assert_same_bytes(one: Path, other: Path) -> None:
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_a_lexicon_is_assembled_from_statistics(wordnet: WordNet, tmp_path: Path) -> None:
    parser = create_parser("tagged", wordnet)
    sources = WordSources(parser, wordnet, glosses=tiny_statistics())
    assemble_lexicon(recipe(), LetterCounts(), sources).save(tmp_path)
    loaded = Lexicon.load(tmp_path)
    assert loaded.spatial.words == ("dog", "ball", "red", "hairy")
    assert loaded.spatial.edges.tolist() == [[0, 1], [2, 3]]
    assert loaded.spatial.edge_counts.tolist() == [2, 1]
    assert loaded.temporal.words == ("run", "roll", "quickly", "down")
    assert loaded.text_encoder == "letter counts"
    assert loaded.provenance["recipe"]["num_nouns"] == 2
    assert "WordNet 3.0" in json.dumps(loaded.provenance["sources"])


@pytest.mark.parametrize("parser", ["tagged", "wordnet"])
def test_two_builds_give_the_same_bytes(wordnet: WordNet, tmp_path: Path, parser: str) -> None:
    captions = TAGGED_CAPTIONS
    if parser == "wordnet":
        captions = ["A hairy red dog slowly rolls down.", "Red rain quickly runs.", "A red ball."]
    wanted = recipe(num_nouns=3, words_from="captions", keep="known")
    for name, texts in (("one", captions), ("two", captions[::-1])):  # order changes nothing
        parsed = create_parser(parser, wordnet)
        build_lexicon(wanted, LetterCounts(), parsed, wordnet, texts).save(tmp_path / name)
    assert_same_bytes(tmp_path / "one", tmp_path / "two")
    loaded = Lexicon.load(tmp_path / "one")
    assert set(loaded.spatial.words) == {"dog", "rain", "ball", "red", "hairy"}
    assert "no parser: pairs are neighbouring words" in json.dumps(loaded.provenance["sources"])


def test_captions_alone_make_a_lexicon(tmp_path: Path) -> None:
    wanted = recipe(
        words_from="captions",
        keep="all",
        num_nouns=3,
        prompt_templates={part: ["a {}"] for part in PARTS_OF_SPEECH},
    )
    lexicon = build_lexicon(
        wanted, LetterCounts(), create_parser("tagged", None), captions=TAGGED_CAPTIONS
    )
    lexicon.save(tmp_path)
    assert lexicon.spatial.words == ("ball", "dog", "rain", "red", "hairy")
    assert lexicon.spatial.word_counts == (1, 1, 1, 3, 1)
    assert lexicon.temporal.words == ("fall", "rolls", "down", "slowly")
    loaded = Lexicon.load(tmp_path)
    assert loaded.provenance["prompt_templates"]["noun"] == ["a {}"]
    assert loaded.provenance["recipe"]["words_from"] == "captions"
    assert "WordNet" not in json.dumps(loaded.provenance)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"words_from: wordnet .* needs WordNet"),
        ({"words_from": "captions"}, r"words_from: captions with keep: visual needs WordNet"),
        ({"words_from": "captions", "keep": "all"}, r"needs captions"),
    ],
)
def test_a_missing_source_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(LexiconError, match=message):
        build_lexicon(recipe(**changes), LetterCounts(), create_parser("tagged", None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": "all"}, "keep: all needs words_from: captions"),
        ({"prompt_templates": {"noun": ["{}"]}}, "must have prompts for each of"),
        (
            {"prompt_templates": {part: ["a dog"] for part in PARTS_OF_SPEECH}},
            "one or more prompts with one '{}' each",
        ),
    ],
)
def test_an_impossible_recipe_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


def test_captions_given_beside_wordnet_count(wordnet: WordNet) -> None:
    pytest.importorskip(PARSER_PACKAGE)
    captions = ["A hairy red dog.", "Red rain fell.", "The red hair.", "Red hair."]
    lexicon = build_lexicon(
        recipe(num_nouns=3, num_adjectives=1), LetterCounts(), SpacyParser(), wordnet, captions
    )
    assert {"dog", "hair"} < set(lexicon.spatial.words)
    assert any("captions" in source["name"] for source in lexicon.provenance["sources"])


def test_the_configuration_of_small_is_that_of_the_shipped_lexicon() -> None:
    config = load_config(BuildCodebookConfig, REPOSITORY / "configs" / "build_codebook.yaml")
    provenance = Lexicon.load("small").provenance
    assert config.words.to_provenance() == provenance["recipe"]
    assert config.words.to_mapping()["prompt_templates"] == provenance["prompt_templates"]


@pytest.mark.parametrize("name", ["build_codebook_full", "build_codebook_captions"])
def test_the_other_configurations_ask_for_the_sizes_of_the_paper(name: str) -> None:
    words = load_config(BuildCodebookConfig, REPOSITORY / "configs" / f"{name}.yaml").words
    assert words.num_nouns + words.num_adjectives == 10_481
    assert words.num_verbs + words.num_adverbs == 11_139


def job_values(directory: Path, wordnet_directory: Path) -> dict[str, Any]:
    """A whole configuration, its captions and its vectors written to `directory`."""
    rows = [json.dumps({"text": text}) for text in TAGGED_CAPTIONS]
    (directory / "captions.jsonl").write_text("\n".join(rows))
    words = ["dog", "ball", "rain", "red", "hairy", "roll", "fall", "slowly", "down"]
    np.save(directory / "table.npy", LetterCounts().encode(words).numpy())
    (directory / "table.json").write_text(json.dumps(words))
    return {
        "output": str(directory / "made"),
        "text_encoder": f"vectors:{directory / 'table.npy'}",
        "parser": "tagged",
        "captions": {"uris": [str(directory / "captions.jsonl")], "column": "text"},
        "wordnet_directory": str(wordnet_directory),
        "words": recipe(num_nouns=3, words_from="captions", keep="all").to_mapping(),
    }


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_a_second_run_does_nothing_and_other_recipes_are_refused(
    wordnet_directory: Path, tmp_path: Path
) -> None:
    values = job_values(tmp_path, wordnet_directory)
    config = BuildCodebookConfig.from_mapping(values)
    (tmp_path / "made").mkdir()  # an empty directory is taken
    first = build_codebook(config)
    before = contents(tmp_path / "made")
    assert set(before) == {
        "lexicon.json",
        "vectors.safetensors",
        "config.yaml",
        "codebook_recipe.json",
    }
    assert load_config(BuildCodebookConfig, tmp_path / "made" / "config.yaml") == config
    again = build_codebook(config)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.lexicon.content_hash == first.lexicon.content_hash
    other = config.model_copy(update={"output": str(tmp_path / "other" / "made")})
    assert build_codebook(other).is_new  # and gives the same bytes
    for name in ("lexicon.json", "vectors.safetensors", "codebook_recipe.json"):
        assert (tmp_path / "other" / "made" / name).read_bytes() == before[name]
    words = config.words.model_copy(update={"num_nouns": 2})
    with pytest.raises(PipelineError, match=r"words\.num_nouns: 3 there, 2 now\nchoose another"):
        build_codebook(config.model_copy(update={"words": words}))
    with (tmp_path / "captions.jsonl").open("a") as captions:
        captions.write('\n{"text": "a/DT cat/NN"}')
    with pytest.raises(PipelineError, match=r"other settings or sources:\n  sources\.captions: "):
        build_codebook(config)
    assert contents(tmp_path / "made") == before
    assert not list(tmp_path.glob(".*"))


def test_the_recipe_knows_its_sources_by_their_files(
    wordnet_directory: Path, tmp_path: Path
) -> None:
    config = BuildCodebookConfig.from_mapping(job_values(tmp_path, wordnet_directory))
    recipes = [codebook_recipe(config)]
    for name in ("table.npy", "table.json", "captions.jsonl"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
        recipes.append(codebook_recipe(config))
    assert len({json.dumps(recipe) for recipe in recipes}) == 4
    moved = config.model_copy(update={"output": "elsewhere"})
    assert codebook_recipe(moved) == recipes[-1]
    assert "1 files of" in recipes[0]["sources"]["captions"]


def test_an_output_that_cannot_be_is_refused_before_any_work(
    wordnet_directory: Path, tmp_path: Path
) -> None:
    values = job_values(tmp_path, wordnet_directory)
    # Work on these vectors would fail otherwise than on the output.
    (tmp_path / "table.npy").unlink()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    Lexicon.load("small").subset(4, 4).save(tmp_path / "foreign")
    for output, error, message in (
        ("file", ConfigError, r"output: .*file is a file; name a directory"),
        ("file/made", ConfigError, r"file/made cannot be made, .*file is a file"),
        ("full", PipelineError, r"full: is there already and holds no codebook"),
        ("foreign", PipelineError, r"foreign: holds a codebook that this job did not build"),
    ):
        values["output"] = str(tmp_path / output)
        with pytest.raises(error, match=message):
            build_codebook(BuildCodebookConfig.from_mapping(values))
    values["output"] = "s3://bucket/codebook"
    with pytest.raises(ConfigError, match="is remote; name a local directory"):
        build_codebook(BuildCodebookConfig.from_mapping(values))
    assert contents(tmp_path / "full") == {"notes.txt": b"mine"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a place that nobody can write to")
def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(
    wordnet_directory: Path, tmp_path: Path
) -> None:
    values = job_values(tmp_path, wordnet_directory) | {"output": "/proc/none/made"}
    (tmp_path / "table.npy").unlink()
    with pytest.raises(ConfigError, match=r"made cannot be made, /proc cannot be written to \("):
        build_codebook(BuildCodebookConfig.from_mapping(values))


@pytest.mark.jobs
def test_the_job_builds_from_captions_and_vectors(wordnet_directory: Path, tmp_path: Path) -> None:
    values = job_values(tmp_path, wordnet_directory)
    config = f"--config={write_config(tmp_path / 'config.yaml', values)}"
    done = run_plain("build_codebook", config)
    assert done.returncode == 0, done.stderr
    lexicon = Lexicon.load(tmp_path / "made")
    assert set(lexicon.spatial.words) == {"dog", "ball", "rain", "red", "hairy"}
    assert set(lexicon.temporal.words) == {"roll", "fall", "slowly", "down"}
    assert lexicon.content_hash in done.stdout
    again = run_plain("build_codebook", config)
    assert "was built before; nothing to do" in again.stdout
    elsewhere = ("--set", f"output={tmp_path / 'elsewhere'}")
    failed = run_plain("build_codebook", config, "--set", "words.num_verbs=9", *elsewhere)
    assert failed.returncode == 1
    assert "2 verbs (9 asked)" in failed.stderr
    assert "Traceback" not in failed.stderr
