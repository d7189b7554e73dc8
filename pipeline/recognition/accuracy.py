"""How often a reader is right, how sure that is, and whether it shows anything at all.

Two intervals, as two things vary. Over episodes: which classes and examples came together. Over
videos: the episodes ask about the same few videos again and again, and other videos would give
other numbers; this one does not shrink with more episodes. Both must lie on one side of chance
before anything is called shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.recognition.answers import Answers
from pipeline.recognition.episodes import Episode
from sweettok.bootstrap import mean_interval

_NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Accuracy:
    """Shares of right answers, in [0, 1].

    Attributes:
        mean: Over all questions.
        episodes_low, episodes_high: 95 % interval over episodes: mean ± 1.96 · s / √n.
        videos_low, videos_high: 95 % interval by a bootstrap over the videos that are asked about;
            None with too few.
        chance: What knowing nothing gives.
        num_episodes: How many.
        num_videos: Different videos that were asked about.
        num_unreadable: Answers that named no class; they count as wrong.
    """

    mean: float
    episodes_low: float
    episodes_high: float
    videos_low: float | None
    videos_high: float | None
    chance: float
    num_episodes: int
    num_videos: int
    num_unreadable: int

    @property
    def verdict(self) -> str:
        """What both intervals together show."""
        if self.videos_low is None or self.videos_high is None:
            return "too few videos to tell"
        if min(self.episodes_low, self.videos_low) > self.chance:
            return "above chance"
        if max(self.episodes_high, self.videos_high) < self.chance:
            return "below chance"
        return "not told from chance"

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for the result, with the verdict."""
        return {**vars(self), "verdict": self.verdict}


def accuracy(answers: Answers, episodes: Sequence[Episode], chance: float) -> Accuracy:
    """How often `answers` are right about `episodes`, one row for each."""
    right = np.array(
        [
            [answer == truth for answer, truth in zip(row, episode.truth.tolist(), strict=True)]
            for row, episode in zip(answers, episodes, strict=True)
        ],
        np.float64,
    )
    of_episode = right.mean(axis=1)
    half = _NORMAL_95 * float(of_episode.std(ddof=1)) / math.sqrt(len(of_episode))
    asked = np.concatenate([episode.asked for episode in episodes])
    over_videos = mean_interval(right.ravel(), asked)
    mean = float(of_episode.mean())
    return Accuracy(
        mean=mean,
        episodes_low=mean - half,
        episodes_high=mean + half,
        videos_low=over_videos.low,
        videos_high=over_videos.high,
        chance=chance,
        num_episodes=len(episodes),
        num_videos=len(np.unique(asked)),
        num_unreadable=sum(answer is None for row in answers for answer in row),
    )
