"""Episodes: a few classes, a few examples of each, and questions that no example answers by itself.

An episode is a pure function of seed, number of examples and its own number: every reader is asked
the same, and more episodes leave the first ones what they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pydantic
from jaxtyping import Int

from pipeline.errors import DatasetError
from pipeline.records import stable_id
from sweettok.strict_config import StrictConfig

MIN_EPISODES = 20  # of fewer, the spread of their means is not known


class EpisodeConfig(StrictConfig):
    """How classes, examples and questions are drawn.

    Attributes:
        num_ways: Classes of an episode.
        shots: Examples of each class; every number is a column of the table.
        queries_per_class: Questions about each class.
        num_episodes: How many episodes for each number of examples.
        seed: Of all draws.
        shuffle_labels: A control: the videos' labels are exchanged at random (by the seed), so that
            no reader can know anything and whoever is above chance nevertheless is a fault.
    """

    num_ways: int = pydantic.Field(default=5, ge=2)
    shots: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(1, 5), min_length=1)
    queries_per_class: int = pydantic.Field(default=1, ge=1)
    num_episodes: int = pydantic.Field(default=200, ge=MIN_EPISODES)
    seed: int = pydantic.Field(default=0, ge=0)
    shuffle_labels: bool = False

    @property
    def chance(self) -> float:
        """The share of right answers of who knows nothing, in [0, 1]."""
        return 1 / self.num_ways


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode; videos are positions in `LabelledVideos`.

    Attributes:
        classes: Names of the N classes.
        support: The K examples of each class.
        queries: The Q videos of each class that are asked about; of none there is an example.
        order: A shuffled order of the N·K examples, class by class, for who reads one after the
            other.
    """

    classes: tuple[str, ...]
    support: Int[np.ndarray, "n k"]
    queries: Int[np.ndarray, "n q"]
    order: Int[np.ndarray, " nk"]

    @property
    def asked(self) -> Int[np.ndarray, " nq"]:
        """All questions, class by class."""
        return self.queries.ravel()

    @property
    def truth(self) -> Int[np.ndarray, " nq"]:
        """The class of each question."""
        return np.repeat(np.arange(len(self.classes)), self.queries.shape[1])

    @property
    def examples(self) -> list[tuple[int, int]]:
        """Video and class of each example, in the shuffled order."""
        num_shots = self.support.shape[1]
        return [
            (int(self.support[place // num_shots, place % num_shots]), int(place // num_shots))
            for place in self.order
        ]


class EpisodeSource:
    """Draws the episodes of one labelling.

    Args:
        by_class: Positions of the videos of each class.
        config: How they are drawn.
        name: Of the labelling, for messages.

    Raises:
        DatasetError: Too few classes have enough videos.
    """

    def __init__(
        self, by_class: Mapping[str, Int[np.ndarray, " n"]], config: EpisodeConfig, name: str
    ) -> None:
        self._config = config
        if config.shuffle_labels:
            by_class = shuffled(by_class, config.seed)
        needed = max(config.shots) + config.queries_per_class
        self.by_class = {label: found for label, found in by_class.items() if len(found) >= needed}
        self.left_out = {
            label: len(found) for label, found in by_class.items() if len(found) < needed
        }
        if len(self.by_class) < config.num_ways:
            raise DatasetError(
                f"labelling {name!r}: {len(self.by_class)} classes have the {needed} videos that "
                f"an episode takes of each ({max(config.shots)} examples, "
                f"{config.queries_per_class} questions), {config.num_ways} are needed; lower "
                "episodes.num_ways or episodes.shots, or ask about more videos (videos.where)"
            )

    @property
    def identity(self) -> str:
        """Hash of what decides them besides the videos' labels; not of how many there are."""
        config = self._config
        drawn = (config.num_ways, config.queries_per_class, config.seed, config.shuffle_labels)
        return stable_id("episodes", *drawn, *self.by_class)

    def draw(self, shots: int, number: int) -> Episode:
        """Episode `number` with `shots` examples of each class."""
        config = self._config
        random = np.random.default_rng([config.seed, shots, number])
        names = list(self.by_class)
        chosen = random.choice(len(names), config.num_ways, replace=False)
        drawn = np.stack(
            [
                random.choice(
                    self.by_class[names[index]], shots + config.queries_per_class, replace=False
                )
                for index in chosen
            ]
        )
        return Episode(
            classes=tuple(names[index] for index in chosen),
            support=drawn[:, :shots],
            queries=drawn[:, shots:],
            order=random.permutation(config.num_ways * shots),
        )


def shuffled(
    by_class: Mapping[str, Int[np.ndarray, " n"]], seed: int
) -> dict[str, Int[np.ndarray, " n"]]:
    """The same videos in classes of the same sizes, exchanged at random."""
    sizes = [len(found) for found in by_class.values()]
    mixed = np.random.default_rng(seed).permutation(np.concatenate(list(by_class.values())))
    return dict(zip(by_class, np.split(mixed, np.cumsum(sizes)[:-1]), strict=True))
