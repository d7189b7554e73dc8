"""How a run is spread over a cluster and when it gives up: the settings alone, without Ray."""

from __future__ import annotations

import pydantic

from pipeline.quarantine_limit import QuarantineLimit
from sweettok.strict_config import StrictConfig


class EngineConfig(StrictConfig):
    """How the work is spread over the cluster, and when a run gives up.

    Attributes:
        units_per_wave: Videos per execution of Ray Data: so many are in the driver's memory at one
            time, about 1 kB each. Between waves the encoders start again.
        num_decode_tasks: Decode tasks at one time; null lets Ray Data use the free cores. If they
            encode as well (`encode.in_decode_tasks`) they hold their cores to the end: null takes
            all of the cluster, a number leaves room for other jobs.
        num_cpus_per_decode_task: CPU cores that one decode task reserves.
        memory_bytes_per_decode_task: Memory that one decode task reserves, in bytes.
        no_progress_timeout_s: A run that finishes nothing for so long is stopped with an error.
        max_restarts: How often in a row, without one more finished video, a run that lost its
            committer goes on by itself from the last commit.
        max_quarantine_fraction: A run is stopped once more than this share of its finished videos
            is quarantined, in [0, 1]; null never stops it.
        min_units_for_fraction: The share counts once so many videos are finished.
    """

    units_per_wave: int = pydantic.Field(default=200_000, ge=1)
    num_decode_tasks: int | None = pydantic.Field(default=None, ge=1)
    num_cpus_per_decode_task: float = pydantic.Field(default=1, gt=0)
    memory_bytes_per_decode_task: int = pydantic.Field(default=512 * 2**20, ge=1)
    no_progress_timeout_s: float = pydantic.Field(default=1800, gt=0)
    max_restarts: int = pydantic.Field(default=3, ge=0)
    max_quarantine_fraction: float | None = pydantic.Field(default=0.5, ge=0, le=1)
    min_units_for_fraction: int = pydantic.Field(default=1000, ge=1)

    def quarantine_limit(self) -> QuarantineLimit:
        """A fresh count against the limit."""
        return QuarantineLimit(self.max_quarantine_fraction, self.min_units_for_fraction)
