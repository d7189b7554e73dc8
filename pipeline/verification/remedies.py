"""Advice that several checks give."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.dataset.deletion import is_video_id

GO_BACK = (
    "go back to a version before the change: deltalake.DeltaTable(uri).restore(version), where "
    "DeltaTable(uri).history() lists the versions"
)
"""For rows that no deletion can name."""


def make_again(dataset_uri: str, video_ids: Iterable[str | None]) -> str:
    """How to have the clips of videos deleted and made again, as commands to follow to the letter.

    Args:
        dataset_uri: Root of the dataset.
        video_ids: What the rows to be deleted say; what is no id is left out.
    """
    names = list(dict.fromkeys(name for name in video_ids if name and is_video_id(name)))
    if not names:
        return GO_BACK
    return (
        "delete it with python jobs/maintain_dataset.py --config configs/maintain_dataset.yaml "
        f"--set 'dataset.uri={dataset_uri}' --set 'delete.videos=[{', '.join(names)}]', then run "
        "the dataset's own jobs/tokenize_corpus.py command again: it makes its clips anew"
    )
