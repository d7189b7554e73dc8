"""The sides beside each other as one picture: where processor time goes, rates, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipeline.throughput.goals import median
from pipeline.throughput.report import PipelineReport

_WIDTH_PX, _BAR_PX, _GAP_PX, _TOP_PX, _LEFT_PX, _RIGHT_PX = 900, 22, 12, 40, 130, 90
_SCALE = 2  # drawn larger and shrunk, so that edges are smooth
_FONT_PX = 13
_BACKGROUND, _QUIET, _TEXT = (255, 255, 255), (101, 109, 118), (31, 35, 40)
_PLAIN = (9, 105, 218)
_COLOURS = {
    "decode tasks": (9, 105, 218),
    "main process": (130, 80, 223),
    "encoders": (26, 127, 55),
    "encoder": (26, 127, 55),
    "decoding and encoding": (9, 105, 218),
    "read task": (9, 105, 218),
    "committer": (207, 81, 16),
    "helper process": (154, 103, 0),
}
_OTHER = "everything else"
_OTHER_COLOUR = (175, 184, 193)


@dataclass(frozen=True)
class _Bar:
    label: str
    parts: tuple[tuple[str, float], ...]
    text: str

    @property
    def length(self) -> float:
        return sum(value for _, value in self.parts)


def report_picture(report: PipelineReport) -> Image.Image:
    """Draws one panel per question: seconds per clip, clips per second, memory."""
    sides = list(report.rounds[0])
    costs, rates, memory = [], [], []
    for side in sides:
        by_kind = [figures[side].cpu_s_per_clip_by_kind for figures in report.rounds]
        kinds = dict.fromkeys(kind for each in by_kind for kind in each)
        found = {kind: median(each.get(kind, 0.0) for each in by_kind) for kind in kinds}
        total = report.median_of(side, "cpu_s_per_clip")
        costs.append(_Bar(side, _parts(found), f"{total * 1e3:.1f} ms"))
        rate = report.median_of(side, "clips_per_s")
        rates.append(_Bar(side, ((side, rate),), f"{rate:.1f}"))
        mib = report.median_of(side, "peak_pss_bytes") / 2**20
        memory.append(_Bar(side, ((side, mib),), f"{mib:,.0f}"))
    panels = [
        ("processor time per clip", costs),
        ("clips per second", rates),
        ("peak memory, MiB", memory),
    ]
    return _draw(panels)


def _parts(found: dict[str, float]) -> tuple[tuple[str, float], ...]:
    named = {kind: value for kind, value in found.items() if kind in _COLOURS}
    rest = sum(found.values()) - sum(named.values())
    return (*sorted(named.items(), key=lambda item: -item[1]), (_OTHER, rest))


def _draw(panels: Sequence[tuple[str, Sequence[_Bar]]]) -> Image.Image:
    heights = [_TOP_PX + len(bars) * (_BAR_PX + _GAP_PX) + _FONT_PX for _, bars in panels]
    size = (_WIDTH_PX, sum(heights))
    picture = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), _BACKGROUND)
    brush = ImageDraw.Draw(picture)
    top = 0
    for (title, bars), height in zip(panels, heights, strict=True):
        _draw_panel(brush, top, title, bars)
        top += height
    return picture.resize(size, Image.Resampling.LANCZOS)


def _draw_panel(brush: ImageDraw.ImageDraw, top: int, title: str, bars: Sequence[_Bar]) -> None:
    font = ImageFont.load_default(_FONT_PX * _SCALE)
    longest = max((bar.length for bar in bars), default=0.0) or 1.0
    room = _WIDTH_PX - _LEFT_PX - _RIGHT_PX
    brush.text(_scaled(_LEFT_PX, top + 10), title, fill=_TEXT, font=font, anchor="lt")
    _draw_legend(brush, top + 10, bars, font)
    for index, bar in enumerate(bars):
        y = top + _TOP_PX + index * (_BAR_PX + _GAP_PX)
        middle = y + _BAR_PX / 2
        brush.text(_scaled(_LEFT_PX - 8, middle), bar.label, fill=_TEXT, font=font, anchor="rm")
        x = float(_LEFT_PX)
        for kind, value in bar.parts:
            width = value / longest * room
            brush.rectangle([_scaled(x, y), _scaled(x + width, y + _BAR_PX)], fill=_colour(kind))
            x += width
        brush.text(_scaled(x + 8, middle), bar.text, fill=_QUIET, font=font, anchor="lm")


def _draw_legend(
    brush: ImageDraw.ImageDraw,
    top: int,
    bars: Sequence[_Bar],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    kinds = dict.fromkeys(kind for bar in bars if len(bar.parts) > 1 for kind, _ in bar.parts)
    x = float(_WIDTH_PX - 12)
    for kind in reversed(kinds):
        brush.text(_scaled(x, top), kind, fill=_colour(kind), font=font, anchor="rt")
        x -= font.getlength(kind) / _SCALE + 12


def _colour(kind: str) -> tuple[int, int, int]:
    return _OTHER_COLOUR if kind == _OTHER else _COLOURS.get(kind, _PLAIN)


def _scaled(x: float, y: float) -> tuple[float, float]:
    return (x * _SCALE, y * _SCALE)
