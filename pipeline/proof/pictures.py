"""Originals above what each row gives back of them, at the same frames."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.proof.run_files import read_pictures
from pipeline.proof.run_spec import RunSpec
from pipeline.proof.runs import SHOWN_CLIPS

_COLUMNS = 6


def comparison_picture(specs: Sequence[RunSpec]) -> Image.Image:
    """One clip of each held-out part: the original, then every row's first finished seed."""
    finished = [spec for spec in specs if spec.finished() is not None]
    rows: list[ContactSheetRow] = []
    for corpus in {spec.corpus.name: spec.corpus for spec in finished}.values():
        of_corpus = [spec for spec in finished if spec.corpus == corpus]
        firsts = {spec.row.name: spec for spec in reversed(of_corpus)}
        in_order = dict.fromkeys(spec.row.name for spec in of_corpus)
        for part, clips in corpus.held_out.items():
            (original,) = clips.evenly_chosen(SHOWN_CLIPS).read(slice(1))
            rows.append(ContactSheetRow(f"original · {corpus.name}, {part}", original.numpy()))
            for spec in (firsts[name] for name in in_order):
                shown = read_pictures(spec.directory)[part][0]
                rows.append(ContactSheetRow(spec.row.label, shown.numpy()))
    return contact_sheet(rows, num_columns=_COLUMNS)
