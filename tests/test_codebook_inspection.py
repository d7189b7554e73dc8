"""Inspecting a codebook: counts, nearest words by text and by trained codes, coverage, the job."""

import json
import re
from pathlib import Path

import pytest
import torch

from jobs.inspect_codebook import main, parse_arguments
from pipeline.codebook_inspection import inspect_codebook
from sweettok import Lexicon, SweetTok
from sweettok.errors import LexiconError
from sweettok.lexicon import Vocabulary
from sweettok.lexicon_building.caption_parsers import TaggedCaptions
from sweettok.lexicon_building.caption_statistics import gather_statistics
from sweettok.lexicon_building.coverage import measure_coverage
from sweettok.lexicon_building.inspection import inspect_vocabulary, nearest_words, sample_words
from tests.job_runs import run_plain


def star() -> Vocabulary:
    """One adjective linked to five of eight nouns; directions at known angles."""
    angles = torch.deg2rad(torch.tensor([0.0, 10, 30, 70, 120, 180, 200, 260, 300]))
    return Vocabulary(
        words=("a", "b", "c", "d", "e", "f", "g", "h", "red"),
        parts_of_speech=("noun",) * 8 + ("adjective",),
        embeddings=torch.stack([angles.cos(), angles.sin()], dim=1) * 3,
        edges=torch.tensor([[0, 1, 2, 4, 5], [8] * 5]),
        edge_counts=torch.ones(5, dtype=torch.int64),
    )


def test_the_graph_is_counted() -> None:
    report = inspect_vocabulary(star(), ["a"], num_neighbours=2)
    nouns, adjectives = report.parts
    assert (report.num_words, report.num_edges) == (9, 5)
    assert (nouns.num_words, nouns.num_isolated, nouns.isolated) == (8, 3, ("d", "g", "h"))
    assert (nouns.mean_degree, nouns.median_degree, nouns.max_degree) == (5 / 8, 1, 1)
    assert (adjectives.max_degree, adjectives.best_linked) == (5, ("red",))
    assert report.degree_histogram == ((0, 0, 3), (1, 1, 5), (2, 3, 0), (4, 7, 1))
    assert sum(count for _, _, count in report.degree_histogram) == report.num_words
    text = "\n".join(report.lines())
    assert "8 nouns: edges per word 0.6 mean, 1 median, 1 most; 3 without an edge" in text
    assert "          1       5  " + "█" * 40 in text


def test_nearest_words_are_those_of_the_smallest_angle() -> None:
    vocabulary = star()
    nearest = nearest_words(vocabulary.words, vocabulary.embeddings, ["a", "g"], num_neighbours=3)
    assert [word for word, _ in nearest["a"]] == ["b", "c", "red"]
    assert nearest["a"][2][1] == pytest.approx(0.5, abs=2e-3)
    assert [word for word, _ in nearest["g"]] == ["f", "h", "e"]
    with pytest.raises(LexiconError, match="'cat' is no word of this codebook"):
        nearest_words(vocabulary.words, vocabulary.embeddings, ["cat"], num_neighbours=1)


def test_neighbours_never_include_the_word_itself() -> None:
    nearest = nearest_words(("a", "b"), torch.eye(2), ["a"], num_neighbours=9)
    assert nearest == {"a": (("b", 0.0),)}


def test_samples_are_words_of_every_part_of_speech() -> None:
    assert sample_words(star(), 4) == ["a", "c", "red"]
    spatial = Lexicon.load("small").spatial
    sampled = sample_words(spatial, 10)
    parts = [spatial.parts_of_speech[spatial.words.index(word)] for word in sampled]
    assert (parts.count("noun"), parts.count("adjective")) == (5, 5)


def test_a_trained_codebook_is_compared_by_its_codes(model: SweetTok) -> None:
    spatial, temporal = model.lexicon.spatial.words[:2], model.lexicon.temporal.words[:1]
    by_text = inspect_codebook(model.lexicon, None, [*spatial, *temporal], num_neighbours=3)
    by_code = inspect_codebook(model.lexicon, model, [*spatial, *temporal], num_neighbours=3)
    codes = model.spatial_quantizer.codebook.codes.double()
    codes = codes / codes.norm(dim=1, keepdim=True)
    for row, word in enumerate(spatial):
        cosines = codes @ codes[row]
        cosines[row] = -2
        best = int(cosines.argmax())
        near, cosine = by_code.vocabularies["spatial"].nearest[word][0]
        assert near == model.lexicon.spatial.words[best]
        assert cosine == pytest.approx(float(cosines[best]), abs=1e-5)
    assert set(by_code.vocabularies["temporal"].nearest) == set(temporal)
    assert by_code.vocabularies["spatial"].nearest != by_text.vocabularies["spatial"].nearest


def test_words_may_be_written_in_any_case_and_unknown_ones_are_all_named() -> None:
    small = Lexicon.load("small")
    report = inspect_codebook(small, None, ["DOG", "dog", "Run"], num_neighbours=1)
    assert set(report.vocabularies["spatial"].nearest) == {"dog"}
    assert set(report.vocabularies["temporal"].nearest) == {"run"}
    message = r"^no words of the lexicon small: Dogg \(did you mean dog\?\), zzzzz$"
    with pytest.raises(LexiconError, match=message):
        inspect_codebook(small, None, ["Dogg", "dog", "zzzzz"], num_neighbours=3)


CAPTIONS = [
    "a/DT red/JJ dog/NN runs/VBZ/run quickly/RB",
    "a/DT xylophone/NN and/CC a/DT dog/NN run/VB",
    "orange/NN light/NN zigzags/VBZ/zigzag",
]


def test_coverage_counts_uses_and_words() -> None:
    small = Lexicon.load("small")
    statistics = gather_statistics(CAPTIONS, TaggedCaptions())
    noun, adjective, verb, adverb = measure_coverage(small, statistics, num_missing=5)
    assert "orange" in small.spatial.words
    assert (noun.num_uses, noun.num_covered_uses) == (5, 4)
    assert (noun.num_words, noun.num_covered_words) == (4, 3)
    assert noun.missing == (("xylophone", 1),)
    assert (adjective.num_uses, adjective.num_covered_uses, adjective.missing) == (1, 1, ())
    assert (verb.num_uses, verb.num_covered_uses, verb.missing) == (3, 2, (("zigzag", 1),))
    assert adverb.num_covered_words == 1
    assert "nouns: 80.0% of 5 uses, 75.0% of 4 words" in next(noun.lines())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            r"give a lexicon \(small, or a directory of jobs/build_codebook\.py\), or --tokenizer",
        ),
        (["--words", "dog", "small"], r"give a lexicon before --words or --captions"),
        (["small", "--tokenizer", "t"], r"lexicon small and --tokenizer t are both given"),
        (["small", "--neighbours", "0"], r"0: must be a number from 1 to 1000"),
        (["small", "--neighbours=-3"], r"-3: must be a number from 1 to 1000"),
        (["small", "--neighbours", "1001"], r"1001: must be a number from 1 to 1000"),
        (["small", "--parser", "wordnet"], r"--parser wordnet needs --wordnet DIR"),
        (["small", "--parser", "treebank"], r"invalid choice: 'treebank'"),
        (["small", "--format", "xml"], r"invalid choice: 'xml'"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        parse_arguments(arguments)
    assert exit_status.value.code == 2
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


def test_a_tokenizer_given_as_a_lexicon_is_told_its_option(
    model: SweetTok, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(SystemExit):
        parse_arguments([str(tmp_path / "tokenizer")])
    assert f"write --tokenizer {tmp_path / 'tokenizer'}" in capsys.readouterr().err
    assert parse_arguments(["--tokenizer", str(tmp_path / "tokenizer")]).lexicon is None


def test_coverage_of_a_format_that_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.old").write_text("\n".join(CAPTIONS))
    options = ["small", "--parser", "tagged", "--captions", str(tmp_path / "captions.old")]
    assert main(options) == 1
    assert "set format to one of" in capsys.readouterr().err
    assert main([*options, "--format", "text"]) == 0
    assert "xylophone (1)" in capsys.readouterr().out


@pytest.mark.jobs
def test_the_job_prints_text_and_json(tokenizer_directory: str, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
    shown = run_plain(
        "inspect_codebook",
        *("small", "--words", "dog", "run", "--neighbours", "2", "--parser", "tagged"),
        *("--captions", str(tmp_path / "captions.txt")),
    )
    assert shown.returncode == 0, shown.stderr
    assert "dog: " in shown.stdout
    assert "xylophone (1)" in shown.stdout
    printed = run_plain("inspect_codebook", "--tokenizer", tokenizer_directory, "--json")
    report = json.loads(printed.stdout)
    assert report["compared"] == "the tokenizer's codes"
    assert report["vocabularies"]["spatial"]["num_words"] == 96
    assert (
        report["content_hash"] == Lexicon.load(Path(tokenizer_directory) / "lexicon").content_hash
    )
    failed = run_plain("inspect_codebook", "nowhere")
    assert failed.returncode == 1
    assert "no lexicon there" in failed.stderr
    assert "Traceback" not in failed.stderr
