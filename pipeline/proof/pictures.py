"""Originals above what each row gives back of them, at the same frames."""

from __future__ import annotations

from collections.abc import Sequence

import safetensors.torch
from PIL import Image

from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.proof.runs import RECONSTRUCTIONS_FILE, SHOWN_CLIPS, RunSpec
from pipeline.proof.tables import ROW_NAMES

_COLUMNS = 6


def comparison_picture(specs: Sequence[RunSpec]) -> Image.Image:
    """One clip of each held-out part: the original, then every row's first finished seed."""
    finished = [spec for spec in specs if spec.finished() is not None]
    rows: list[ContactSheetRow] = []
    for corpus in {spec.corpus.name: spec.corpus for spec in finished}.values():
        firsts = {spec.row: spec for spec in reversed(finished) if spec.corpus == corpus}
        in_order = dict.fromkeys(spec.row for spec in finished if spec.corpus == corpus)
        for part, clips in corpus.held_out.items():
            (original,) = clips.evenly_chosen(SHOWN_CLIPS).read(slice(1))
            rows.append(ContactSheetRow(f"original · {corpus.name}, {part}", original.numpy()))
            for row in in_order:
                path = firsts[row].directory / RECONSTRUCTIONS_FILE
                shown = safetensors.torch.load_file(path)[part][0]
                rows.append(ContactSheetRow(ROW_NAMES.get(row, row), shown.numpy()))
    return contact_sheet(rows, num_columns=_COLUMNS)
