"""Damaged, odd and hostile files beside good ones: the job ends, and accounts for every one.

`make fuzz` runs it at full size; SWEETTOK_FUZZ_FILES sets the number of mutated files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars
import psutil
import pytest

from pipeline.dataset import Committer, TokenDataset
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeStage
from pipeline.engine import run_in_process
from pipeline.errors import QuarantineReason
from pipeline.planning import plan_units
from pipeline.sources import list_videos
from pipeline.storage import canonical_uri
from pipeline.tokenization import TokenizeConfig, build_lineage
from pipeline.verification import VerifyConfig, verify_dataset
from sweettok import SweetTok
from sweettok.tokenizer_manifest import read_manifest
from tests.fuzz_corpus import MUTATIONS, NUM_GOOD, FuzzCorpus, make_fuzz_corpus
from tests.job_runs import REPOSITORY, job_environment, write_config
from tests.process_tree import MemoryPeaks, MemorySampler
from tests.tiny_corpus import tokenize_values

NUM_MUTATED = int(os.environ.get("SWEETTOK_FUZZ_FILES", "40"))
CLIPS_PER_VIDEO = 2
MAX_DECODER_BYTES = 1 * 2**30
MAX_PRIVATE_BYTES = 6 * 2**30
# What such a file must become whatever the decoders are; the others may be tokens or not.
CERTAIN = {
    "empty": QuarantineReason.EMPTY,
    "dangling link": QuarantineReason.NOT_FOUND,
    "link to itself": QuarantineReason.READ_ERROR,
    "no file": QuarantineReason.READ_ERROR,
}
COLUMNS = ["clip_id", "video_uri", "frame_indices", "spatial_tokens", "temporal_tokens"]


def job_values(corpus: FuzzCorpus, tokenizer: str, dataset: Path) -> dict[str, Any]:
    """Settings with a deadline that a hanging decoder soon reaches."""
    values = tokenize_values(corpus.folder, tokenizer, dataset)
    return values | {
        "decode": {"deadline_s": 30, "max_pixels_per_frame": 2048 * 2048},
        "engine": {"max_quarantine_fraction": None, "no_progress_timeout_s": 600},
        "cluster": {"num_cpus": 2, "object_store_bytes": 300 * 2**20},
    }


def run_watched(
    config: Path, timeout_s: float
) -> tuple[subprocess.CompletedProcess[str], MemoryPeaks]:
    """Runs the real job in processes of its own, its memory sampled."""
    command = [sys.executable, "jobs/tokenize_corpus.py", "--config", str(config)]
    with (
        open(config.with_suffix(".out"), "w+") as output,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=job_environment(), stdout=output, stderr=output, text=True
        ) as process,
    ):
        sampler = MemorySampler(process.pid, ("decoding.child", "ray::", "raylet"))
        try:
            process.wait(timeout_s)
        finally:
            peaks = sampler.stop()
            process.kill()
        output.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, output.read()), peaks


def tokens_alone(corpus: FuzzCorpus, values: dict[str, Any], root: Path) -> polars.DataFrame:
    """The good videos tokenized without the others, one clip at a time, in this process."""
    config = TokenizeConfig.from_mapping(
        values
        | {"source": {"uris": [canonical_uri(path) for path in corpus.good]}}
        | {"dataset": {"uri": str(root)}}
    )
    model_config = SweetTok.from_pretrained(config.tokenizer).config
    lineage = build_lineage(config, read_manifest(config.tokenizer), model_config)
    dataset = TokenDataset.create_or_open(root, lineage)
    units, _ = plan_units(list_videos(config.source), dataset.finished_units())
    stage = DecodeStage(
        config.decode, config.clips, config.preprocess, lineage.geometry, config.source.storage
    )
    committer = Committer(dataset, "alone")
    run_in_process(
        units, stage, EncodeStage(config.tokenizer, config.encode), committer, batch_size=1
    )
    return polars.read_delta(str(root)).select(COLUMNS).sort("clip_id")


@pytest.mark.jobs
@pytest.mark.timeout(600 + 20 * NUM_MUTATED)
def test_every_file_is_accounted_for_and_no_good_one_suffers(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    corpus = make_fuzz_corpus(tmp_path, NUM_MUTATED)
    values = job_values(corpus, tokenizer_directory, tmp_path / "tokens")
    result, peaks = run_watched(
        write_config(tmp_path / "tokenize.yaml", values), timeout_s=300 + 15 * NUM_MUTATED
    )
    assert result.returncode == 0, result.stdout
    dataset = TokenDataset.open(tmp_path / "tokens")
    rows = polars.read_delta(dataset.uri).select(COLUMNS).sort("clip_id")
    reasons = {row["video_uri"]: row["reason"] for row in dataset.quarantine().to_pylist()}
    _print_outcome(corpus, set(rows["video_uri"]), reasons, peaks)

    tokenized = set(rows["video_uri"])
    listed = {canonical_uri(path) for path in [*corpus.good, *corpus.mutated]}
    assert len(listed) == NUM_GOOD + NUM_MUTATED
    assert tokenized.isdisjoint(reasons)
    assert tokenized | reasons.keys() == listed
    accounts = f"listed {len(listed)} = tokenized {len(tokenized)} + quarantined {len(reasons)}"
    assert accounts in result.stdout
    assert "unexpected failure" not in result.stdout

    alone = tokens_alone(corpus, values, tmp_path / "alone")
    assert len(alone) == NUM_GOOD * CLIPS_PER_VIDEO
    assert rows.filter(polars.col("video_uri").is_in(alone["video_uri"].implode())).equals(alone)
    for path, mutation in corpus.mutated.items():
        if mutation in CERTAIN:
            assert reasons[canonical_uri(path)] == CERTAIN[mutation], path
        if mutation == "wrong extension":
            assert canonical_uri(path) in tokenized, path

    assert peaks.by_role_bytes["decoding.child"] < MAX_DECODER_BYTES
    assert peaks.private_bytes < MAX_PRIVATE_BYTES
    psutil.wait_procs(peaks.processes.values(), timeout=30)
    assert peaks.survivors() == []
    report = verify_dataset(
        VerifyConfig.from_mapping({"dataset": {"uri": dataset.uri}, "sample_clips": 10})
    )
    assert report.num_findings == 0, report.text()


def _print_outcome(
    corpus: FuzzCorpus, tokenized: set[str], reasons: dict[str, str], peaks: MemoryPeaks
) -> None:
    """What became of each kind of file, for the log of the run."""
    print(f"\n{NUM_GOOD} good files and {len(corpus.mutated)} mutated ones")
    for mutation in MUTATIONS:
        paths = [path for path, name in corpus.mutated.items() if name == mutation]
        fates = Counter(reasons.get(canonical_uri(path), "tokenized") for path in paths)
        print(f"  {mutation:<21} {', '.join(f'{n} {fate}' for fate, n in fates.most_common())}")
    print(peaks.line())
