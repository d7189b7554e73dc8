"""Few-shot recognition: words, episodes, readers without a language model, the whole run."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, PipelineError
from pipeline.recognition.accuracy import Accuracy, accuracy
from pipeline.recognition.config import RecognizeConfig
from pipeline.recognition.episodes import Episode, EpisodeConfig, EpisodeSource, shuffled
from pipeline.recognition.nearest_class import (
    BagOfWordsConfig,
    BagOfWordsReader,
    CodeVectorsConfig,
    CodeVectorsReader,
)
from pipeline.recognition.recognize import RESULT_FILE, Recognition, recognize
from pipeline.recognition.videos import (
    LabelledVideos,
    LabellingConfig,
    VideosConfig,
    read_videos,
)
from pipeline.recognition.words import WordTable, WordTables, rarity
from sweettok import SweetTok
from sweettok.errors import ConfigError
from tests.job_runs import run_plain, write_config
from tests.recognition_samples import (
    CLIPS_PER_VIDEO,
    COLOURS,
    COMMON_WORD,
    VIDEOS_PER_COLOUR,
    colour_words,
    make_labelled_dataset,
)

NUM_VIDEOS = len(COLOURS) * VIDEOS_PER_COLOUR


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, tokenizer_directory: str) -> str:
    root = tmp_path_factory.mktemp("recognition") / "tokens"
    return make_labelled_dataset(root, tokenizer_directory)


@pytest.fixture(scope="module")
def videos(dataset: str) -> LabelledVideos:
    labellings = [LabellingConfig(column="colour"), LabellingConfig(column="coin")]
    return read_videos(TokenDataset.open(dataset), VideosConfig(clips_per_video=2), labellings)


@pytest.fixture(scope="module")
def tables(videos: LabelledVideos, tokenizer_directory: str) -> WordTables:
    return WordTables.of(SweetTok.from_pretrained(tokenizer_directory), videos)


def settings_for(dataset: str, output: Path, **changes: Any) -> RecognizeConfig:
    values: dict[str, Any] = {
        "dataset": {"uri": dataset},
        "labellings": [{"column": "colour"}],
        "episodes": {"num_ways": 3, "shots": [1, 2], "num_episodes": 30},
        "readers": [{"kind": "bag_of_words"}, {"kind": "code_vectors"}],
        "output": str(output),
    }
    return RecognizeConfig.from_mapping(values | changes)


def test_videos_are_grouped_and_words_counted_over_all_clips(videos: LabelledVideos) -> None:
    assert len(videos) == NUM_VIDEOS
    assert videos.num_clips == NUM_VIDEOS * CLIPS_PER_VIDEO
    assert list(videos.uris) == sorted(videos.uris)
    assert Counter(videos.labels["colour"]) == dict.fromkeys(COLOURS, VIDEOS_PER_COLOUR)
    assert videos.spatial_clips[COMMON_WORD] == videos.num_clips  # once a clip, however often
    of_a_colour = VIDEOS_PER_COLOUR * CLIPS_PER_VIDEO
    assert videos.spatial_clips[list(colour_words(2))].tolist() == [of_a_colour] * 2
    for video, colour in zip(videos.videos, videos.labels["colour"], strict=True):
        found = set(video.spatial[video.spatial < 40].tolist())
        assert found == set(colour_words(COLOURS.index(str(colour))))


def test_only_wanted_videos_are_kept_but_all_clips_are_counted(
    dataset: str, videos: LabelledVideos
) -> None:
    config = VideosConfig(where={"split": "test"}, clips_per_video=1)
    kept = read_videos(TokenDataset.open(dataset), config, [LabellingConfig(column="colour")])
    assert len(kept) == NUM_VIDEOS // 2
    assert kept.num_clips == videos.num_clips
    assert len(kept.videos[0].spatial) * 2 == len(videos.videos[0].spatial)
    assert kept.fingerprint != videos.fingerprint


@pytest.mark.parametrize(
    ("config", "column", "message"),
    [
        (VideosConfig(), "color", "no column 'color', it has colour, coin, split"),
        (VideosConfig(where={"split": "dev"}), "colour", "no clip of 96 fits"),
        (VideosConfig(where={"part": "dev"}), "colour", "no column 'part'"),
        (VideosConfig(), "clip_id", "differ in 'clip_id'"),
    ],
)
def test_videos_that_cannot_be_asked_about(
    dataset: str, config: VideosConfig, column: str, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        read_videos(TokenDataset.open(dataset), config, [LabellingConfig(column=column)])


def test_common_words_do_not_drown_rare_ones(videos: LabelledVideos, tables: WordTables) -> None:
    number = videos.labels["colour"].index("blue")
    ids = videos.videos[number].spatial
    assert Counter(ids.tolist()).most_common(1)[0][0] == COMMON_WORD
    ranked = tables.spatial.ranked(ids, 1000)
    assert len(ranked) == len(set(ids.tolist()))
    assert ranked[-1] == tables.spatial.words[COMMON_WORD]
    assert tables.spatial.weights(ids)[COMMON_WORD] == 0
    assert tables.ranked(videos.videos[number], 3, 0).temporal == ()


def test_weights_are_those_of_the_formula() -> None:
    ids = np.array([0, 0, 0, 1, 2])
    table = WordTable(("a", "b", "c", "d"), rarity(np.array([9, 4, 1, 0]), 9), *[np.eye(4)] * 2)
    expected = [0.0, math.log(2) * math.log(10 / 5), math.log(2) * math.log(10 / 2), 0.0]
    np.testing.assert_allclose(table.weights(ids), expected)
    assert table.ranked(ids, 2) == ("c", "b")


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=8),
    num_ways=st.integers(2, 4),
    shots=st.integers(1, 4),
    queries=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_episodes_keep_their_promises(
    sizes: list[int], num_ways: int, shots: int, queries: int, seed: int
) -> None:
    ends = np.cumsum([0, *sizes])
    by_class = {f"c{i}": np.arange(ends[i], ends[i + 1]) for i in range(len(sizes))}
    config = EpisodeConfig(num_ways=num_ways, shots=(shots,), queries_per_class=queries, seed=seed)
    if sum(size >= shots + queries for size in sizes) < num_ways:
        with pytest.raises(DatasetError, match=r"lower episodes\.num_ways or"):
            EpisodeSource(by_class, config, "colour")
        return
    source = EpisodeSource(by_class, config, "colour")
    episode, again = source.draw(shots, 3), source.draw(shots, 3)
    assert (episode.support == again.support).all()
    assert (episode.order == again.order).all()
    assert len(set(episode.classes)) == num_ways
    drawn = np.concatenate([episode.support, episode.queries], axis=1)
    assert len(np.unique(drawn)) == drawn.size  # no question is an example as well
    for name, row in zip(episode.classes, drawn, strict=True):
        assert set(row) <= set(by_class[name])
    assert episode.asked.shape == episode.truth.shape
    assert sorted(episode.examples) == sorted(
        (int(video), number) for number, row in enumerate(episode.support) for video in row
    )


def test_shuffled_labels_keep_sizes_and_exchange_videos() -> None:
    by_class = {"a": np.arange(30), "b": np.arange(30, 100)}
    mixed = shuffled(by_class, seed=1)
    assert [len(found) for found in mixed.values()] == [30, 70]
    assert sorted(np.concatenate(list(mixed.values()))) == list(range(100))
    assert len(set(mixed["a"]) & set(by_class["a"])) < 20


def test_nearest_class_is_that_of_the_definition(
    videos: LabelledVideos, tables: WordTables
) -> None:
    """Against loops over words, written from the definition."""
    source = EpisodeSource(
        videos.by_class(LabellingConfig(column="coin")), EpisodeConfig(num_ways=2), "coin"
    )
    for number in range(5):
        episode = source.draw(5, number)
        bag = BagOfWordsReader(videos.videos, tables, BagOfWordsConfig())
        assert bag.answer(episode) == _slow_nearest(episode, videos, tables, vectors=None)
        for which in ("codes", "text"):
            reader = CodeVectorsReader(videos.videos, tables, CodeVectorsConfig(vectors=which))
            assert reader.answer(episode) == _slow_nearest(episode, videos, tables, vectors=which)


def _slow_nearest(
    episode: Episode, videos: LabelledVideos, tables: WordTables, vectors: str | None
) -> list[int]:
    def vector(position: int) -> np.ndarray:
        halves = []
        for name in ("spatial", "temporal"):
            table = getattr(tables, name)
            known = np.eye(len(table.words)) if vectors is None else (
                table.codes if vectors == "codes" else table.embeddings
            )  # fmt: skip
            centre = 0 if vectors is None else known.mean(axis=0, dtype=np.float64)
            total = np.zeros(known.shape[1])
            for word, count in Counter(getattr(videos.videos[position], name).tolist()).items():
                total += math.log(1 + count) * table.rarity[word] * (known[word] - centre)
            halves.append(total / np.linalg.norm(total))
        return np.concatenate(halves)

    means = [np.mean([vector(position) for position in row], axis=0) for row in episode.support]
    return [
        int(np.argmax([vector(query) @ mean / np.linalg.norm(mean) for mean in means]))
        for query in episode.asked
    ]


def _episodes(num: int) -> list[Episode]:
    by_class = {name: np.arange(20) + 20 * index for index, name in enumerate("abcde")}
    source = EpisodeSource(by_class, EpisodeConfig(queries_per_class=2), "letters")
    return [source.draw(1, number) for number in range(num)]


def test_accuracy_and_its_intervals() -> None:
    episodes = _episodes(100)
    random = np.random.default_rng(0)
    answers: list[list[int | None]] = [
        [int(truth) if random.random() < 0.5 else None for truth in episode.truth]
        for episode in episodes
    ]
    found = accuracy(answers, episodes, 0.2)
    shares = np.array([np.mean([answer is not None for answer in row]) for row in answers])
    assert found.mean == pytest.approx(shares.mean())
    half = 1.96 * shares.std(ddof=1) / 10
    assert found.episodes_high - found.mean == pytest.approx(half, rel=1e-3)
    assert found.num_unreadable == sum(row.count(None) for row in answers)
    assert found.verdict == "above chance"


def test_many_episodes_about_few_videos_are_not_much_evidence() -> None:
    """A reader that knows some videos by heart and is wrong about the others."""
    episodes = _episodes(2000)
    known = set(np.random.default_rng(2).choice(100, 24, replace=False).tolist())
    answers: list[list[int | None]] = [
        [int(truth) if video in known else None
         for video, truth in zip(episode.asked, episode.truth, strict=True)]
        for episode in episodes
    ]  # fmt: skip
    found = accuracy(answers, episodes, 0.2)
    assert found.episodes_low > 0.2
    assert found.verdict == "not told from chance"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.21, 0.3, "above chance"),
        (0.19, 0.3, "not told from chance"),
        (0.1, 0.19, "below chance"),
        (None, None, "too few videos to tell"),
    ],
)
def test_verdicts(low: float | None, high: float | None, verdict: str) -> None:
    ends = (low, high) if low is not None else (0.3, 0.4)
    assert Accuracy(0.25, *ends, low, high, 0.2, 200, 50, 0).verdict == verdict  # type: ignore[arg-type]


def test_a_whole_run(dataset: str, tmp_path: Path) -> None:
    config = settings_for(
        dataset, tmp_path, labellings=[{"column": "colour"}, {"column": "coin", "name": "toss"}],
        episodes={"num_ways": 2, "shots": [1, 3], "num_episodes": 40},
    )  # fmt: skip
    found = recognize(config)
    colour, toss = found.result["labellings"]
    for reader in colour["readers"]:
        assert [cell["verdict"] for cell in reader["shots"]] == ["above chance"] * 2
    bag = colour["readers"][0]["shots"]
    assert bag[0]["mean"] > 0.9
    assert bag[1]["mean"] == 1.0
    assert all(cell["mean"] < 0.8 for reader in toss["readers"] for cell in reader["shots"])
    assert "### toss" in found.table
    assert "100.0 ± 0.0 [100.0, 100.0] **above chance** |" in found.table
    assert found.lines[0].startswith("colour, bag of words: 1-shot 9")
    assert json.loads((tmp_path / RESULT_FILE).read_text()) == json.loads(json.dumps(found.result))


def test_with_exchanged_labels_nothing_is_shown(dataset: str, tmp_path: Path) -> None:
    episodes = {"num_ways": 3, "shots": [2], "num_episodes": 40, "shuffle_labels": True}
    found = recognize(settings_for(dataset, tmp_path, episodes=episodes))
    (colour,) = found.result["labellings"]
    for reader in colour["readers"]:
        assert reader["shots"][0]["verdict"] != "above chance"
    assert "control" in found.table


def _answer_files(output: Path) -> dict[str, int]:
    files = sorted((output / "answers").rglob("*.json"))
    return {str(path.relative_to(output)): path.stat().st_mtime_ns for path in files}


def test_a_run_goes_on_where_it_was_stopped(dataset: str, tmp_path: Path) -> None:
    first: Recognition = recognize(settings_for(dataset, tmp_path))
    files = _answer_files(tmp_path)
    assert len(files) == 2 * 2 * 3
    lost = sorted(files)[4]
    (tmp_path / lost).unlink()
    again = recognize(settings_for(dataset, tmp_path))
    assert again.result == first.result
    after = _answer_files(tmp_path)
    assert {name for name in files if files[name] != after[name]} == {lost}
    more = {"num_ways": 3, "shots": [1, 2], "num_episodes": 40}
    recognize(settings_for(dataset, tmp_path, episodes=more))
    longer = _answer_files(tmp_path)
    assert {name: longer[name] for name in after} == after  # the first 30 episodes stay
    assert len(longer) == 2 * 2 * 4


def test_damaged_answers_are_named(dataset: str, tmp_path: Path) -> None:
    recognize(settings_for(dataset, tmp_path))
    path = next((tmp_path / "answers").rglob("*.json"))
    path.write_text(path.read_text()[:20])
    with pytest.raises(PipelineError, match=f"{path.name}: damaged; remove it"):
        recognize(settings_for(dataset, tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"readers": []}, "readers is empty"),
        ({"readers": [{"kind": "bag"}]}, "kind must be bag_of_words, code_vectors, local_model"),
        ({"readers": [{"kind": "bag_of_words"}] * 2}, "two are called 'bag of words'"),
        ({"readers": [{"kind": "code_vectors", "vector": "text"}]}, "did you mean 'vectors'"),
        ({"episodes": {"num_episodes": 5}}, "greater than or equal to 20"),
        (
            {"readers": [{"kind": "local_model", "path": "x",
                          "prompt": {"max_spatial_words": 0, "max_temporal_words": 0}}]},
            "nothing to read",
        ),
    ],
)  # fmt: skip
def test_settings_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for("tokens", tmp_path, **changes)


@pytest.mark.jobs
def test_the_job(dataset: str, tmp_path: Path) -> None:
    values = settings_for(dataset, tmp_path / "out").to_mapping()
    config = write_config(tmp_path / "recognize.yaml", values)
    result = run_plain("recognize", "--config", str(config))
    assert result.returncode == 0, result.stderr
    assert "colour, code vectors: 1-shot" in result.stdout
    assert (tmp_path / "out" / "table.md").read_text() in result.stdout
    wrong = run_plain("recognize", "--config", str(config), "--set", "labellings=[{column: hue}]")
    assert wrong.returncode == 1
    assert "no column 'hue'" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
