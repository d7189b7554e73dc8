"""A refresh (`jobs/refresh_dataset.py`): tokenize what changed, then apply the retention policy.

One command that a scheduler may start at any time, also twice: a second one leaves at once, and
one that was killed is continued by the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import pydantic

from pipeline.dataset import DatasetConfig, TokenDataset
from pipeline.dataset.lease import LeaseConfig, held_lease
from pipeline.maintenance import (
    CleanUpConfig,
    CompactConfig,
    MaintainConfig,
    PinConfig,
    maintain_dataset,
)
from pipeline.maintenance_summary import MaintenanceSummary
from pipeline.tokenization import TokenizeConfig, tokenize_corpus
from pipeline.tokenize_summary import TokenizeSummary

PIN_PREFIX = "refresh-"
"""Begins the names of the pins that refreshes set, which end in the pinned version."""


class RefreshConfig(TokenizeConfig):
    """One run of `jobs/refresh_dataset.py`: the settings of `tokenize_corpus`, and of what follows.

    Attributes:
        keep_states: So many states of the dataset, as refreshes left them, stay readable however
            old they are: the latest one and those before it, which are pinned as
            "refresh-<version>". Other versions go after `clean_up.retention_h`.
        compact, clean_up: As in `jobs/maintain_dataset.py`.
        checkpoint: Write the state of each log into one file, so that opening reads less.
        lease: How overlapping refreshes are told apart from dead ones.
    """

    keep_states: int = pydantic.Field(default=3, ge=1)
    compact: CompactConfig = CompactConfig()
    clean_up: CleanUpConfig = CleanUpConfig()
    checkpoint: bool = True
    lease: LeaseConfig = LeaseConfig()


@dataclass(frozen=True)
class RefreshSummary:
    """What a refresh did.

    Attributes:
        tokenized: The account of all inputs.
        maintained: What compaction and clean-up did.
    """

    tokenized: TokenizeSummary
    maintained: MaintenanceSummary

    def lines(self) -> list[str]:
        """The summary for people."""
        return [*self.tokenized.lines(), *self.maintained.lines()]


def refresh_dataset(config: RefreshConfig) -> RefreshSummary:
    """Brings the dataset up to date with the source and applies the retention policy.

    Raises:
        DatasetBusyError: Another refresh of the dataset is under way.
        PipelineError: As `tokenize_corpus` and `maintain_dataset`.
        SweetTokError: The tokenizer cannot be loaded.
    """
    with held_lease(config.dataset.uri, config.dataset.storage, config.lease):
        before = _version(config)
        tokenized = tokenize_corpus(config)
        return RefreshSummary(tokenized, maintain_dataset(_maintenance(config, before)))


def _version(config: RefreshConfig) -> int | None:
    place = config.dataset
    if not TokenDataset.exists(place.uri, storage=place.storage):
        return None
    return TokenDataset.open(place.uri, storage=place.storage).version


def _maintenance(config: RefreshConfig, version_before: int | None) -> MaintainConfig:
    """The retention policy as the pins to set and to remove, and what else is to do."""
    place = DatasetConfig(uri=config.dataset.uri, storage=config.dataset.storage)
    dataset = TokenDataset.open(place.uri, storage=place.storage)
    earlier = {
        pin.version: pin.name for pin in dataset.pins() if pin.name == f"{PIN_PREFIX}{pin.version}"
    }
    pin = PinConfig()
    if config.keep_states > 1 and version_before not in (None, dataset.version):
        assert version_before is not None
        earlier[version_before] = f"{PIN_PREFIX}{version_before}"
        pin = PinConfig(name=earlier[version_before], version=version_before)
    num_old = max(0, len(earlier) - (config.keep_states - 1))
    return MaintainConfig(
        dataset=place,
        pin=pin,
        unpin=tuple(earlier[version] for version in sorted(earlier)[:num_old]),
        compact=config.compact,
        clean_up=config.clean_up,
        checkpoint=config.checkpoint,
    )
