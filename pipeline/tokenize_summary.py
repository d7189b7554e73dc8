"""The account of one run: every input in exactly one place."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import QuarantineLimitError
from pipeline.wording import counted


@dataclass(frozen=True)
class TokenizeSummary:
    """What a run did; `num_listed` is the sum of the next three.

    Attributes:
        run_id: Name of the run.
        dataset_uri: Root of the dataset.
        dataset_version: Its version after the run.
        num_listed: Inputs found, each counted once.
        num_tokenized: Inputs whose clips this run committed.
        num_quarantined: Inputs that this run quarantined.
        num_unchanged: Inputs that the dataset already had, that were taken down, or that another
            run finished meanwhile.
        num_taken_down: Those of them that were taken down and stay out.
        num_in_quarantine: Listed inputs that are in quarantine now, by this run or an earlier one.
        num_repeated: How often an input was listed once more; not in `num_listed`.
        num_removed: Videos of the dataset that were not listed; not in `num_listed`.
        num_deleted: Those of them whose rows this run deleted.
        num_clips: Clips committed by this run.
        duration_s: Seconds from the first listed input to the last commit.
        steady_clips_per_s: Clips per second once the encoders were at work; 0 if that was too
            short to tell.
        reasons: How many inputs this run quarantined for each reason.
    """

    run_id: str
    dataset_uri: str
    dataset_version: int
    num_listed: int
    num_tokenized: int
    num_quarantined: int
    num_unchanged: int
    num_taken_down: int
    num_in_quarantine: int
    num_repeated: int
    num_removed: int
    num_deleted: int
    num_clips: int
    duration_s: float
    steady_clips_per_s: float
    reasons: dict[str, int]

    def lines(self) -> list[str]:
        """The summary for people."""
        if self.num_tokenized or self.num_quarantined:
            return [self._accounts(), *self._quarantined(), self._work()]
        if self.num_deleted:
            return [self._accounts(), f"{self.dataset_uri} is at version {self.dataset_version}"]
        return [self._accounts(), self._nothing_to_do()]

    def check_quarantine(self, max_fraction: float | None) -> None:
        """Compares the inputs in quarantine with a budget.

        Args:
            max_fraction: Largest allowed share of the listed inputs, in [0, 1]; None allows all.

        Raises:
            QuarantineLimitError: There are more; what to do about it.
        """
        if max_fraction is None or self.num_in_quarantine <= max_fraction * self.num_listed:
            return
        raise QuarantineLimitError(
            f"{self.num_in_quarantine} of the {self.num_listed} listed videos are in quarantine, "
            f"above quarantine_budget = {max_fraction:g}; everything else is done. See why in "
            f"{self.dataset_uri}/_quarantine, mend the cause and run the same command with "
            "retry_quarantined=[all], or raise quarantine_budget"
        )

    def _nothing_to_do(self) -> str:
        line = f"nothing to do: {self.dataset_uri} is up to date"
        if not self.num_taken_down:
            return line
        videos = counted(self.num_taken_down, "video")
        return f"{line}, {videos} kept out by takedowns (takedown.lift lets videos in)"

    def _accounts(self) -> str:
        accounts = (
            f"listed {self.num_listed} = tokenized {self.num_tokenized} + quarantined "
            f"{self.num_quarantined} + unchanged {self.num_unchanged}"
        )
        if self.num_taken_down:
            accounts += f" (of which taken down {self.num_taken_down})"
        if self.num_removed:
            accounts += f"; removed {self.num_removed}, of which deleted {self.num_deleted}"
        if self.num_repeated:
            accounts += f"; listed again {self.num_repeated}"
        return accounts

    def _quarantined(self) -> list[str]:
        if not self.reasons:
            return []
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items())
        return [f"quarantined: {reasons}; why, in {self.dataset_uri}/_quarantine"]

    def rates(self) -> str:
        """Clips per second, for people."""
        rate = self.num_clips / self.duration_s if self.duration_s else 0.0
        without = f", {self.steady_clips_per_s:.1f} without" if self.steady_clips_per_s else ""
        return f"{rate:.1f} clips/s with start-up{without}"

    def _work(self) -> str:
        return (
            f"{counted(self.num_clips, 'clip')} in {self.duration_s:.1f} s ({self.rates()}) → "
            f"{self.dataset_uri} version {self.dataset_version}"
        )
