"""The steps whose costs are measured, each in a process that nothing else has made larger."""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import multiprocessing.connection
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.dataset import CommitConfig, Committer, TokenDataset
from pipeline.dataset.finished_units import STATE_TOKENS, FinishedUnits, finished_batch
from pipeline.errors import PipelineError
from pipeline.id_index import PACKED_ID
from pipeline.known_videos import KnownVideos
from pipeline.planning import plan
from pipeline.records import ClipWindow, TokenizedClip, UnitEnd, VideoInfo, WorkUnit, stable_id
from pipeline.scaling.corpora import DATASET, MANIFEST, copied_dataset
from pipeline.scaling.growth_config import StepName
from pipeline.scaling.process_memory import peak_bytes, reset_peak
from pipeline.sources import ManifestConfig, SourceConfig, list_batches
from pipeline.synthetic_corpus import ROOT, num_new, synthetic_lineage

_UNITS_AT_ONCE = 1000
_IDS_AT_ONCE = 10_000
_SOURCE = VideoInfo(64, 64, 24.0, 17, 1.0, "none", "none")


@dataclass(frozen=True)
class Work:
    """What one process measures.

    Attributes:
        step: Which step.
        folder: The corpus.
        num_units: Its videos.
        clips_per_unit: Clip rows of each in the dataset.
        units_per_commit: Videos of a commit.
    """

    step: StepName
    folder: Path
    num_units: int
    clips_per_unit: int
    units_per_commit: int


@dataclass(frozen=True)
class Measurement:
    """What one step cost at one size.

    Attributes:
        step, num_units, clips_per_unit: As `Work`.
        wall_s: Seconds.
        cpu_s: CPU seconds of all threads.
        idle_bytes: Memory of the process before the step.
        peak_bytes: Largest memory of the process until its end.
    """

    step: StepName
    num_units: int
    clips_per_unit: int
    wall_s: float
    cpu_s: float
    idle_bytes: int
    peak_bytes: int


def measure_apart(work: Work) -> Measurement:
    """Measures in a fresh process.

    Raises:
        PipelineError: The step failed or did something else than it should.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, sender))
    process.start()
    sender.close()
    try:
        answer = json.loads(receiver.recv_bytes())
    except EOFError:
        raise PipelineError(
            f"{work.step} of {work.num_units} videos ended early; its message is above"
        ) from None
    finally:
        process.join()
    if "error" in answer:
        raise PipelineError(f"{work.step} of {work.num_units} videos: {answer['error']}")
    return Measurement(**answer)


def _answer(work: Work, sender: multiprocessing.connection.Connection) -> None:
    logging.basicConfig(level=logging.WARNING)
    try:
        answer = dataclasses.asdict(_measure(work))
    except PipelineError as error:
        answer = {"error": str(error)}
    sender.send_bytes(json.dumps(answer).encode())


def _measure(work: Work) -> Measurement:
    watch = _Watch()
    _FUNCTIONS[work.step](work, watch)
    return Measurement(
        work.step, work.num_units, work.clips_per_unit,
        watch.wall_s, watch.cpu_s, watch.idle_bytes, peak_bytes(),
    )  # fmt: skip


class _Watch:
    """Adds up the time of what happens inside `with` blocks, and nothing else's."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        self.idle_bytes = reset_peak()

    def __enter__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def __exit__(self, *exception: object) -> None:
        self.wall_s += time.perf_counter() - self._began[0]
        self.cpu_s += time.process_time() - self._began[1]


def _source(work: Work) -> SourceConfig:
    manifest = ManifestConfig(uri=str(work.folder / MANIFEST))
    return SourceConfig(manifests=(manifest,), allowed_roots=(ROOT,))


def _list(work: Work, watch: _Watch) -> None:
    with watch:
        deque(list_batches(_source(work)), maxlen=0)


def _plan_first(work: Work, watch: _Watch) -> None:
    with watch:
        planned = plan(list_batches(_source(work)), FinishedUnits.none())
    _check_number(work, "planned", len(planned.units), work.num_units)


def _plan_again(work: Work, watch: _Watch) -> None:
    with watch:
        finished = TokenDataset.open(work.folder / DATASET).finished_units()
        planned = plan(list_batches(_source(work)), finished)
    _check_number(work, "planned", len(planned.units), num_new(work.num_units))


def _commit_all(work: Work, watch: _Watch) -> None:
    root = work.folder / "commit_all"
    shutil.rmtree(root, ignore_errors=True)
    dataset = TokenDataset.create_or_open(root, synthetic_lineage())
    every = CommitConfig(every_clips=work.units_per_commit, every_s=None)
    committer = Committer(dataset, "run", every)
    _add_units(committer, range(work.num_units), watch)
    with watch:
        summary = committer.close()
    _check_number(work, "committed", summary.num_videos, work.num_units)
    shutil.rmtree(root)


def _commit_first(work: Work, watch: _Watch) -> None:
    _commit_twice(work, watch, _Watch())


def _commit_more(work: Work, watch: _Watch) -> None:
    _commit_twice(work, _Watch(), watch)


def _commit_twice(work: Work, first: _Watch, second: _Watch) -> None:
    """Two commits of new videos to a dataset, by one committer."""
    root = copied_dataset(work.folder / DATASET, work.folder / "commit_twice")
    with first:
        dataset = TokenDataset.open(root)
    committer = Committer(dataset, "run", CommitConfig(every_clips=None, every_s=None))
    num_units = work.units_per_commit
    for number, watch in enumerate((first, second)):
        _add_units(committer, range(number * num_units, (number + 1) * num_units), watch)
        with watch:
            summary = committer.commit()
    _check_number(work, "committed", summary.num_videos, 2 * num_units)
    shutil.rmtree(root)


def _index(work: Work, watch: _Watch) -> None:
    """Ids at random instead of a dataset's: hashes look the same."""
    random = np.random.default_rng(0)

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, work.num_units, _IDS_AT_ONCE):
            num_ids = min(_IDS_AT_ONCE, work.num_units - start)
            ids, fingerprints = (_random_ids(random, num_ids) for _ in range(2))
            yield finished_batch(ids, fingerprints, STATE_TOKENS)

    with watch:
        known = KnownVideos.read(batches(), ())
    _check_number(work, "known", len(known), work.num_units)


def _random_ids(random: np.random.Generator, num_ids: int) -> pa.ChunkedArray:
    content = pa.py_buffer(random.bytes(16 * num_ids))
    return pa.chunked_array([pa.Array.from_buffers(PACKED_ID, num_ids, [None, content])])


def _add_units(committer: Committer, numbers: range, watch: _Watch) -> None:
    for start in range(numbers.start, numbers.stop, _UNITS_AT_ONCE):
        few = range(start, min(start + _UNITS_AT_ONCE, numbers.stop))
        records = [record for number in few for record in _records(number)]
        with watch:
            for record in records:
                committer.add(record)


def _records(number: int) -> Iterator[TokenizedClip | UnitEnd]:
    """A video of one clip, which no manifest has."""
    lineage = synthetic_lineage()
    uri = f"made-up://{number:09}.mp4"
    unit = WorkUnit(stable_id("video", uri), uri, stable_id("fingerprint", uri), size_bytes=1)
    window = ClipWindow(0, tuple(range(lineage.geometry.num_frames)), 0.0, 1.0)
    spatial = np.full(lineage.num_spatial_tokens, number % lineage.num_spatial_words, np.int16)
    temporal = np.full(lineage.num_temporal_tokens, number % lineage.num_temporal_words, np.int16)
    yield TokenizedClip(unit, window, _SOURCE, spatial, temporal)
    yield UnitEnd(unit, 1)


def _check_number(work: Work, what: str, found: int, expected: int) -> None:
    if found != expected:
        raise PipelineError(
            f"{found} videos were {what} instead of {expected}; remove {work.folder} and measure "
            "again"
        )


_FUNCTIONS: dict[StepName, Callable[[Work, _Watch], None]] = {
    "listing": _list,
    "first_plan": _plan_first,
    "diff": _plan_again,
    "index": _index,
    "commit_all": _commit_all,
    "commit_first": _commit_first,
    "commit_more": _commit_more,
}
