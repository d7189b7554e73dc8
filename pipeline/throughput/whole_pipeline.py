"""The whole pipeline on a Ray of its own: a fresh dataset, real commits, nothing left out."""

from __future__ import annotations

import threading
import time

import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from pipeline.cluster import connect, has_gpu
from pipeline.dataset import TokenDataset
from pipeline.engine import CommitTarget, run_on_ray
from pipeline.throughput.workplace import Outcome, Workplace
from pipeline.tokenization import build_lineage
from sweettok.tokenizer_manifest import verified_manifest

_RUN_ID = "benchmark"
_STORE_INTERVAL_S = 1.0


def whole_pipeline(place: Workplace) -> Outcome:
    """Tokenizes all units as `jobs/tokenize_corpus.py` does, planning left out.

    Raises:
        PipelineError: As `run_on_ray`.
    """
    config = place.tokenize_config()
    manifest = verified_manifest(config.tokenizer_directory)
    dataset = TokenDataset.create_or_open(
        config.dataset.uri, build_lineage(config, manifest, place.model_config)
    )
    dataset.store_tokenizer(config.tokenizer_directory)
    connect(config.cluster)
    began_s = time.monotonic()
    with ObjectStoreWatch() as store:
        result = run_on_ray(
            place.units,
            place.decode_spec(),
            place.encode_config(),
            config.engine,
            CommitTarget(config.dataset.uri, config.dataset.storage, _RUN_ID, config.commit),
        )
        ended_s = time.monotonic()
    committed, flow = result.committed, result.flow
    return Outcome(
        committed.num_clips,
        began_s,
        began_s,  # the clocks of the encoders know better
        flow.last_s,
        ended_s,
        num_quarantined=committed.num_quarantined,
        commit_busy_s=flow.busy_s,
        object_store_bytes=store.peak_bytes,
        spilled_bytes=store.spilled_bytes,
        num_gpus=_num_gpus(place),
    )


def _num_gpus(place: Workplace) -> float:
    config = place.config.encode
    is_null = place.config.mode == "null_encoder"
    return 0.0 if is_null else config.num_actors * config.num_gpus(has_gpu=has_gpu())


class ObjectStoreWatch:
    """Asks Ray once a second how full its object store is, while the block runs.

    Attributes:
        peak_bytes: The most that was in it.
        spilled_bytes: All that was written to disk for want of room.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.spilled_bytes = 0
        # Ray shows these figures to people only (`ray memory --stats-only`); this is what it asks.
        self._state = get_state_from_address(ray.get_runtime_context().gcs_address)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="object store")

    def __enter__(self) -> ObjectStoreWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_STORE_INTERVAL_S):
            stats = get_memory_info_reply(self._state).store_stats
            self.peak_bytes = max(self.peak_bytes, stats.object_store_bytes_used)
            self.spilled_bytes = max(self.spilled_bytes, stats.spilled_bytes_total)
