"""Two whole jobs at once on one dataset: it is the dataset of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.dataset import TokenDataset
from tests.in_process_run import token_rows, tokenize_in_process
from tests.job_runs import HeadNode, start_on_cluster, write_config
from tests.tiny_corpus import tokenize_config, tokenize_values
from tests.video_factory import make_video

pytestmark = [pytest.mark.ray, pytest.mark.jobs]

NUM_VIDEOS = 24


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(NUM_VIDEOS):
        make_video(folder / f"{index:02}.mp4", num_frames=20 + index % 12, fps=10 + index)
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    return folder


def test_two_jobs_on_one_dataset_give_that_of_one(
    head_node: HeadNode, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    values = tokenize_values(corpus, tokenizer_directory, tmp_path / "tokens")
    values |= {
        "engine": {"num_decode_tasks": 1},
        "commit": {"every_clips": 4},
    }
    config = write_config(tmp_path / "job.yaml", values)
    jobs = [
        start_on_cluster(head_node, "tokenize_corpus", "--config", str(config)) for _ in range(2)
    ]
    outputs = [job.communicate(timeout=300)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], "\n".join(outputs)
    counts = [accounts(output) for output in outputs]
    assert sum(tokenized for _, tokenized, _, _ in counts) == NUM_VIDEOS
    for listed, *fates in counts:
        assert listed == sum(fates) == NUM_VIDEOS + 1
    alone = tokenize_config(corpus, tokenizer_directory, tmp_path / "alone")
    expected = tokenize_in_process(alone, batch_size=4)
    assert token_rows(tmp_path / "tokens").equals(token_rows(expected.uri))
    quarantine = TokenDataset.open(tmp_path / "tokens").quarantine()
    assert [row["reason"] for row in quarantine.to_pylist()] == ["not_a_video"]


def accounts(output: str) -> tuple[int, ...]:
    """Listed, tokenized, quarantined and unchanged videos of a job's last lines."""
    line = r"listed (\d+) = tokenized (\d+) \+ quarantined (\d+) \+ unchanged (\d+)"
    (numbers,) = re.findall(line, output)
    return tuple(map(int, numbers))
