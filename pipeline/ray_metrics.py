"""The counts of a run as Ray's metrics, which Prometheus scrapes from every node.

Names begin with "ray_sweettok_" there; the tag `dataset` tells runs apart. What each is, and the
panels that show them: docs/operations.md and configs/deploy/grafana_dashboard.json.
"""

from __future__ import annotations

from collections.abc import Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from pipeline.run_totals import RunTotals
from pipeline.stage_queues import StageQueues
from sweettok.uri_secrets import redacted

_COUNTERS = {
    "sweettok_videos": ("num_videos", "Videos whose fate is known."),
    "sweettok_clips": ("num_clips", "Clips that came out of the encoders."),
    "sweettok_frames": ("num_frames", "Frames of those clips."),
    "sweettok_tokens": ("num_tokens", "Tokens of those clips."),
    "sweettok_bytes_in": ("bytes_in", "Size of the videos whose fate is known."),
    "sweettok_bytes_out": ("bytes_out", "Size of the data files that were committed."),
    "sweettok_commits": ("num_commits", "Commits to the dataset."),
    "sweettok_retries": ("num_retries", "Commits that were tried again."),
}
_STAGES = {"decode": "decode_s", "encode": "encode_s", "commit": "commit_s"}
_LATENCIES_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]


class RayMetrics:
    """Publishes the counts of one run; made in the process that counts.

    Args:
        dataset_uri: Where the run writes.
    """

    def __init__(self, dataset_uri: str) -> None:
        self._tags = {"dataset": redacted(dataset_uri)}
        self._published = RunTotals()
        tags = ("dataset",)
        self._counters = {
            name: Counter(name, description, tags) for name, (_, description) in _COUNTERS.items()
        }
        self._stages = Counter(
            "sweettok_stage_seconds", "Seconds that a stage was at work.", (*tags, "stage")
        )
        self._quarantined = Counter(
            "sweettok_quarantined", "Videos that gave no clip.", (*tags, "reason")
        )
        self._waiting = Gauge(
            "sweettok_queue_depth",
            "What waits: blocks of videos before decode, of clips before encode; clips to commit.",
            (*tags, "stage"),
        )
        self._latency = Histogram(
            "sweettok_commit_latency_seconds", "How long a commit took.", _LATENCIES_S, tags
        )

    def note(self, totals: RunTotals, commits_s: Sequence[float], queues: StageQueues) -> None:
        """Publishes what came since the last call, and what waits now."""
        new, self._published = totals.since(self._published), totals
        for name, (attribute, _) in _COUNTERS.items():
            _add(self._counters[name], getattr(new, attribute), self._tags)
        for stage, attribute in _STAGES.items():
            _add(self._stages, getattr(new, attribute), self._tags | {"stage": stage})
        for reason, count in new.reasons.items():
            _add(self._quarantined, count, self._tags | {"reason": reason})
        for latency_s in commits_s:
            self._latency.observe(latency_s, self._tags)
        for stage in _STAGES:
            depth = getattr(queues, stage).num_waiting
            self._waiting.set(depth, self._tags | {"stage": stage})


def _add(counter: Counter, amount: float, tags: dict[str, str]) -> None:
    if amount > 0:  # Ray refuses to add nothing
        counter.inc(amount, tags)
