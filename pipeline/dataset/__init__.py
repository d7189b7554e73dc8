"""The token dataset: a Delta Lake table of clip rows that carries its lineage and its tokenizer.

    <root>/                   the Delta table, one row per clip (any Delta reader opens it)
    <root>/_quarantine/       a second Delta table, one row per input that gave no clip
    <root>/_tokenizer/<id>/   the tokenizer's files, so that the dataset can be decoded alone
    <root>/_runs/<run_id>/    resolved config and summary of every run
    <root>/_pins/<name>.json  versions that vacuum leaves alone
    <root>/_lease/<n>.json    which refresh is under way

Folders whose names start with an underscore are invisible to Delta readers and to vacuum.
"""

from pipeline.dataset.committer import CommitConfig, CommitSummary, Committer
from pipeline.dataset.lineage import Lineage
from pipeline.dataset.location import DatasetConfig
from pipeline.dataset.token_dataset import TokenDataset

__all__ = ["CommitConfig", "CommitSummary", "Committer", "DatasetConfig", "Lineage", "TokenDataset"]
