"""How far an epoch is read, by one rank and by all: the state that a checkpoint keeps.

What a rank reads is a stretch of the positions that were left when its run began; what it has read
is a set of positions. Whoever goes on with another number of ranks takes the states of all old
ranks: what none of them has read is what is left, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import DatasetError
from pipeline.reading.positions import Positions

_FORMAT = 1
_NOTHING = Positions()


@dataclass(frozen=True)
class Progress:
    """One rank's place in an epoch.

    Attributes:
        fingerprint: Of what is read.
        seed, shuffle, window_samples: What the order depends on besides.
        epoch: The epoch.
        left: Positions that were unread, by all ranks, when their common run began.
        rank, world_size: Which share of `left` is this rank's.
        consumed: What this rank has read of its share.
    """

    fingerprint: str
    seed: int
    shuffle: bool
    window_samples: int
    epoch: int
    left: Positions
    rank: int
    world_size: int
    consumed: Positions = _NOTHING

    def share(self) -> Positions:
        """The positions of this rank, read or not."""
        return self.left.split(self.world_size)[self.rank]

    def unread(self) -> Positions:
        """The positions that this rank has still to read."""
        return self.share() - self.consumed

    def after(self, positions: Positions) -> Progress:
        """The place after `positions` were read."""
        return replace(self, consumed=self.consumed | positions)

    def to_state(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "format": _FORMAT,
            "fingerprint": self.fingerprint,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "window_samples": self.window_samples,
            "epoch": self.epoch,
            "left": self.left.to_list(),
            "rank": self.rank,
            "world_size": self.world_size,
            "consumed": self.consumed.to_list(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Progress:
        """Reads what `to_state` gave.

        Raises:
            DatasetError: It is no state of a reader.
        """
        try:
            values = dict(state)
            if values.pop("format") != _FORMAT:
                raise ValueError(f"format {state['format']!r}, this version reads {_FORMAT}")
            values["left"] = Positions.of(values["left"])
            values["consumed"] = Positions.of(values["consumed"])
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"this is no state of a token loader: {error!r}") from error

    def resumed(self, states: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Progress:
        """The place from which this rank goes on.

        Args:
            states: This rank's own state, where rank and number of ranks are what they were; or
                the states of all ranks of the earlier run, in any order.

        Raises:
            DatasetError: The states are of other data or another order, or some are missing.
        """
        if isinstance(states, Mapping):
            found = Progress.from_state(states)
            self._check_same(found)
            if (found.rank, found.world_size) != (self.rank, self.world_size):
                raise DatasetError(
                    f"this is the state of rank {found.rank} of {found.world_size}, this loader is "
                    f"rank {self.rank} of {self.world_size}; give a list of the states of all "
                    f"{found.world_size} ranks"
                )
            return found
        earlier = _in_one_epoch([Progress.from_state(state) for state in states])
        self._check_complete(earlier)
        left = earlier[0].left
        for each in earlier:
            left = left - each.consumed
        return replace(self, epoch=earlier[0].epoch, left=left, consumed=Positions())

    def _check_same(self, found: Progress) -> None:
        for name in ("fingerprint", "seed", "shuffle", "window_samples"):
            theirs, ours = getattr(found, name), getattr(self, name)
            if theirs != ours:
                what = "the data (version, filters, columns of a mixture)"
                raise DatasetError(
                    f"the state was saved with another {name}: {theirs!r} there, {ours!r} here; "
                    f"positions mean other samples then. Open {what} and the order as they were"
                )

    def _check_complete(self, earlier: Sequence[Progress]) -> None:
        if not earlier:
            raise DatasetError("no state of any rank was given")
        first = earlier[0]
        for found in earlier:
            self._check_same(found)
            if (found.left, found.world_size) != (first.left, first.world_size):
                raise DatasetError(
                    f"the states of ranks {first.rank} and {found.rank} are not of the same "
                    "moment's run: give the states that the ranks of one run saved together"
                )
        ranks = sorted(found.rank for found in earlier)
        if ranks != list(range(first.world_size)):
            raise DatasetError(
                f"states of ranks {ranks} were given, there were {first.world_size} ranks: give "
                "each rank's state once"
            )


def _in_one_epoch(states: list[Progress]) -> list[Progress]:
    """The same places, said of one epoch.

    Shares differ by a sample, so when all stop at one step some ranks may be at the end of an epoch
    and others at the beginning of the next one: these have read their whole share of the old epoch,
    or those have read nothing yet of the new one.
    """
    newest = max((state.epoch for state in states), default=0)
    behind = [state for state in states if state.epoch < newest]
    ahead = [state for state in states if state.epoch == newest]
    if not behind:
        return states
    old = behind[0]
    if not any(state.unread() for state in behind):
        moved = [replace(state, epoch=newest, left=ahead[0].left) for state in behind]
        return [replace(state, consumed=_NOTHING) for state in moved] + ahead
    if any(state.consumed for state in ahead) or old.epoch != newest - 1:
        raise DatasetError(
            f"ranks {sorted(state.rank for state in ahead)} have begun epoch {newest}, ranks "
            f"{sorted(state.rank for state in behind)} have samples of epoch {old.epoch} left: "
            "give states that all ranks saved in one epoch"
        )
    moved = [replace(state, epoch=old.epoch, left=old.left) for state in ahead]
    return behind + [replace(state, consumed=state.share()) for state in moved]
