"""Contact sheets: evenly spaced frames of several clips, one labelled row each, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.preview.video_files import Frames, check_frames
from sweettok.errors import ShapeError

# Text is sized for a page that shows the sheet this wide, whatever its own width.
SHOWN_WIDTH_PX = 1000
SHOWN_FONT_PX = 14
SEPARATOR = " · "
MAX_LABEL_CHARACTERS = 32
BACKGROUND, TEXT, QUIET_TEXT = (255, 255, 255), (31, 35, 40), (101, 109, 118)


@dataclass(frozen=True, slots=True, eq=False)
class ContactSheetRow:
    """One row of a sheet.

    Attributes:
        label: Written left of the frames; what follows the first " · " goes on a quieter line.
        frames: uint8 array [time, height, width, 3], RGB, in [0, 255].
    """

    label: str
    frames: Frames

    def __post_init__(self) -> None:
        check_frames(self.frames, f"frames of row {self.label!r}")

    def __repr__(self) -> str:
        return f"ContactSheetRow(label={self.label!r}, frames={list(self.frames.shape)})"


def contact_sheet(
    rows: Sequence[ContactSheetRow], num_columns: int = 6, scale: float = 1.0
) -> Image.Image:
    """Draws the sheet.

    Args:
        rows: At least one, from top to bottom; sizes and lengths may differ.
        num_columns: Frames shown of each row, from its first to its last; all if it has fewer.
        scale: Shown size of a pixel: whole numbers keep pixels sharp, others are resampled.

    Raises:
        ShapeError: There are no rows, `num_columns` is below 1 or `scale` is not positive.
    """
    if not rows or num_columns < 1 or not 0 < scale < float("inf"):
        raise ShapeError(
            f"a sheet needs rows, num_columns >= 1 and scale > 0, "
            f"found {len(rows)} rows, {num_columns=}, {scale=}"
        )
    strips = [_strip(row.frames, num_columns, scale) for row in rows]
    strip_width = max(strip.width for strip in strips)
    font_px = _font_px(rows, strip_width)
    font = ImageFont.load_default(font_px)
    margin, gap = font_px, max(2, font_px // 3)
    gutter = max(_label_width(row.label, font) for row in rows) + margin
    text_height = round(2.6 * font_px)
    heights = [max(strip.height, text_height) for strip in strips]
    gaps = [0, *(gap if _name(a) == _name(b) else 4 * gap for a, b in pairwise(rows))]
    size = (
        gutter + strip_width + 2 * margin,
        sum(heights) + sum(gaps) + 2 * margin,
    )
    sheet = Image.new("RGB", size, BACKGROUND)
    top = margin
    for row, strip, height, gap_above in zip(rows, strips, heights, gaps, strict=True):
        top += gap_above
        sheet.paste(strip, (margin + gutter, top + (height - strip.height) // 2))
        _draw_label(sheet, row.label, font, (margin, top + height // 2))
        top += height
    return sheet


def _strip(frames: Frames, num_columns: int, scale: float) -> Image.Image:
    num_shown = min(num_columns, len(frames))
    chosen = np.linspace(0, len(frames) - 1, num_shown).round().astype(int)
    height, width = (max(1, round(side * scale)) for side in frames.shape[1:3])
    resample = Image.Resampling.NEAREST if float(scale).is_integer() else Image.Resampling.LANCZOS
    gap = max(1, width // 48)
    strip = Image.new("RGB", (num_shown * (width + gap) - gap, height), BACKGROUND)
    for column, index in enumerate(chosen):
        image = Image.fromarray(frames[index]).resize((width, height), resample)
        strip.paste(image, (column * (width + gap), 0))
    return strip


def _font_px(rows: Sequence[ContactSheetRow], strip_width: int) -> int:
    """The size that reads as `SHOWN_FONT_PX` once the sheet is shown `SHOWN_WIDTH_PX` wide."""
    widest = max(_label_width(row.label, ImageFont.load_default(SHOWN_FONT_PX)) for row in rows)
    frames_share = SHOWN_WIDTH_PX - widest - 3 * SHOWN_FONT_PX
    return max(SHOWN_FONT_PX, round(SHOWN_FONT_PX * strip_width / frames_share))


def _label_width(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    return round(max(font.getlength(line) for line in _label_lines(label)))


def _label_lines(label: str) -> list[str]:
    first, _, second = " ".join(label.split()).partition(SEPARATOR)
    return [_shortened(line) for line in (first, second) if line] or [""]


def _name(row: ContactSheetRow) -> str:
    """What the row shows; rows of the same thing stand closer together."""
    return _label_lines(row.label)[0]


def _shortened(line: str) -> str:
    """File names may be long: keeps the beginning and the end."""
    if len(line) <= MAX_LABEL_CHARACTERS:
        return line
    half = MAX_LABEL_CHARACTERS // 2
    return f"{line[: half - 1]}…{line[-half:]}"


def _draw_label(
    sheet: Image.Image,
    label: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    left_middle: tuple[int, int],
) -> None:
    left, middle = left_middle
    lines = _label_lines(label)
    line_height = font.getbbox("Ag")[3] * 1.25
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        offset = (number - (len(lines) - 1) / 2) * line_height
        colour = QUIET_TEXT if number else TEXT
        draw.text((left, middle + offset), line, font=font, fill=colour, anchor="lm")
