"""What waits before each stage of a run and what is under way: read off Ray Data as it works.

Ray Data has no public call for this. It does call back after every step of an execution, in the
process that drives it (`DataContext.custom_execution_callback_classes`), and shows its state then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

_INTERVAL_S = 0.5
# In the names of Ray Data's operators; the first that fits.
_TOGETHER, _DECODE, _ENCODE = "DecodingEncoder", "decode_units", "Encoder"


@dataclass(frozen=True, slots=True)
class StageQueue:
    """One stage.

    Attributes:
        num_waiting: What has come and is not begun: blocks of videos before decode, blocks of
            clips before encode, clips before commit.
        num_active: What is under way: tasks that decode, with those that Ray has no room for yet;
            calls of encoders; one commit.
    """

    num_waiting: int = 0
    num_active: int = 0


@dataclass(frozen=True, slots=True)
class StageQueues:
    """All stages at one moment.

    Attributes:
        decode, encode, commit: The stages.
        num_encoders: Encoders that are ready.
        is_together: Whether they decode as well: what waits and is at work then counts as decode's.
    """

    decode: StageQueue = StageQueue()
    encode: StageQueue = StageQueue()
    commit: StageQueue = StageQueue()
    num_encoders: int = 0
    is_together: bool = False

    def lines(self) -> str:
        """All numbers, for people."""
        decode, encode, commit = self.decode, self.encode, self.commit
        committing = (
            f"commit: {commit.num_waiting} clips wait, "
            f"{'one' if commit.num_active else 'none'} under way"
        )
        if self.is_together:
            return (
                f"decode and encode: {decode.num_waiting} blocks of videos wait, "
                f"{decode.num_active} at work in {self.num_encoders} ready processes; {committing}"
            )
        return (
            f"decode: {decode.num_waiting} blocks wait, {decode.num_active} tasks are Ray's; "
            f"encode: {encode.num_waiting} blocks of clips wait, {encode.num_active} calls at "
            f"work in {self.num_encoders} ready encoders; {committing}"
        )

    def where_stuck(self) -> str:
        """The stage on which a run waits that finishes nothing, and what to look at."""
        if self.commit.num_active:
            return "A commit does not end: see that the dataset's storage answers"
        if self.encode.num_active:
            return (
                "Encoders are at work on clips that do not end: look at their nodes, or lower "
                "encode.batch_size"
            )
        if not self.num_encoders and self.is_together:
            return (
                "No process that decodes and encodes has started: see that the cluster has the "
                "CPUs and the memory that engine.* asks for, free of other jobs"
            )
        if not self.num_encoders:
            return (
                "No encoder has started: see that the cluster has the CPUs and GPUs that encode.* "
                "asks for, free of other jobs"
            )
        if self.decode.num_active:
            return (
                "Decode tasks do not end: see that engine.num_cpus_per_decode_task and "
                "engine.memory_bytes_per_decode_task are free on one node, that the source's "
                "storage answers, and that decode.deadline_s is below the limit"
            )
        if self.decode.num_waiting:
            return (
                "No decode task has been started: see that the cluster's CPUs, memory and object "
                "stores have room"
            )
        return "Nothing waits and nothing is at work: see that the cluster's nodes are alive"


class QueueProbe:
    """Ray Data's callback that keeps the latest numbers of this process's execution.

    Made by Ray Data, without arguments, hence what it knows is the class's.

    Attributes:
        latest: The numbers of decode and encode; zeros while nothing is executed.
    """

    latest: ClassVar[StageQueues] = StageQueues()
    _read_s: ClassVar[float] = 0.0

    def before_execution_starts(self, executor: Any) -> None:
        """Reads the numbers before the first task."""
        self._read(executor)

    def on_execution_step(self, executor: Any) -> None:
        """Reads the numbers again, now and then."""
        if time.monotonic() - QueueProbe._read_s >= _INTERVAL_S:
            self._read(executor)

    def after_execution_succeeds(self, executor: Any) -> None:  # noqa: ARG002 (Ray Data's call)
        """Nothing waits any more."""
        QueueProbe.latest = StageQueues()

    def after_execution_fails(self, executor: Any, error: Exception) -> None:  # noqa: ARG002
        """Nothing waits any more."""
        QueueProbe.latest = StageQueues()

    def _read(self, executor: Any) -> None:
        found: dict[str, StageQueue] = {}
        num_encoders, is_together = 0, False
        for operator, state in executor._topology.items():
            queue = StageQueue(state.total_enqueued_input_blocks(), operator.num_active_tasks())
            stages = (name for name in (_TOGETHER, _DECODE, _ENCODE) if name in operator.name)
            stage = next(stages, None)
            if stage is None:
                continue
            is_together = is_together or stage == _TOGETHER
            found[_DECODE if stage == _TOGETHER else stage] = queue
            if stage != _DECODE:
                num_encoders = operator.get_actor_info().running
        QueueProbe.latest = StageQueues(
            decode=found.get(_DECODE, StageQueue()),
            encode=found.get(_ENCODE, StageQueue()),
            num_encoders=num_encoders,
            is_together=is_together,
        )
        QueueProbe._read_s = time.monotonic()
