"""Video files, contact sheets and the terminal summary."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.preview.contact_sheet import ContactSheetRow, contact_sheet
from pipeline.preview.terminal_summary import WIDTH_COLUMNS, format_summary
from pipeline.preview.video_files import encode_mp4, write_mp4
from sweettok.errors import ShapeError


def moving_square(num_frames: int, height: int, width: int) -> np.ndarray:
    """A coloured square crossing a smooth background: uint8 [time, height, width, 3]."""
    rows, columns = np.mgrid[:height, :width]
    background = np.stack([rows * 3, columns * 3, rows + columns], axis=-1) % 200
    frames = np.repeat(background[None].astype(np.uint8), num_frames, axis=0)
    for index, frame in enumerate(frames):
        frame[4:12, index : index + 8] = (220, 40, 90)
    return frames


def decode_mp4(data: bytes) -> tuple[np.ndarray, float]:
    """The file's frames as RGB, and its frame rate."""
    with av.open(io.BytesIO(data)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = [
            frame.reformat(format="rgb24", src_colorspace=Colorspace.ITU709).to_ndarray()
            for frame in container.decode(video=0)
        ]
    return np.stack(frames), rate


@pytest.mark.parametrize("fps", [8.0, 7.5, 30000 / 1001])
def test_mp4_gives_back_its_frames_and_its_rate(fps: float) -> None:
    frames = moving_square(17, 64, 96)
    # Doubled, so that halved chroma does not blur the colours this compares.
    frames = frames.repeat(2, axis=1).repeat(2, axis=2)
    decoded, rate = decode_mp4(encode_mp4(frames, fps))
    assert decoded.shape == frames.shape
    assert rate == pytest.approx(fps, rel=1e-4)
    error = np.mean((decoded.astype(float) - frames) ** 2)
    assert 10 * np.log10(255**2 / error) > 40


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)])
def test_mp4_keeps_colours_and_tags_them(colour: tuple[int, int, int]) -> None:
    frames = np.full((3, 32, 32, 3), colour, dtype=np.uint8)
    data = encode_mp4(frames, 8)
    decoded, _ = decode_mp4(data)
    assert np.abs(decoded.astype(int) - frames).max() <= 3
    with av.open(io.BytesIO(data)) as container:
        context = container.streams.video[0].codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)


@pytest.mark.parametrize(("height", "width"), [(33, 47), (32, 47), (33, 48), (1, 1)])
def test_mp4_pads_odd_sizes_by_repeating_the_edge(height: int, width: int) -> None:
    frames = np.full((2, height, width, 3), 90, dtype=np.uint8)
    decoded, _ = decode_mp4(encode_mp4(frames, 8))
    assert decoded.shape == (2, height + height % 2, width + width % 2, 3)
    assert np.abs(decoded.astype(int) - 90).max() <= 3


def test_mp4_starts_with_its_index_and_is_deterministic() -> None:
    frames = moving_square(5, 32, 32)
    data = encode_mp4(frames, 8)
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    assert data == encode_mp4(frames, 8)


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), 8),
        (np.zeros((8, 8, 3), np.uint8), 8),
        (np.zeros((2, 8, 8, 4), np.uint8), 8),
        (np.zeros((0, 8, 8, 3), np.uint8), 8),
        (np.zeros((2, 8, 8, 3), np.uint8), 0),
        (np.zeros((2, 8, 8, 3), np.uint8), float("nan")),
    ],
)
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, frames: np.ndarray, fps: float
) -> None:
    path = tmp_path / "deep" / "clip.mp4"
    write_mp4(path, moving_square(3, 16, 16), 8)
    before = path.read_bytes()
    with pytest.raises(ShapeError):
        write_mp4(path, frames, fps)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == ["clip.mp4"]


def test_a_write_replaces_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"an older file")
    frames = moving_square(3, 16, 16)
    write_mp4(path, frames, 8)
    assert path.read_bytes() == encode_mp4(frames, 8)
    assert list(tmp_path.iterdir()) == [path]


def grey_levels(num_frames: int, side_px: int) -> np.ndarray:
    """Frame i is of the flat grey 10 + i: what a sheet shows can be read off its pixels."""
    levels = np.arange(10, 10 + num_frames, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, side_px, side_px, 3)).copy()


@pytest.mark.parametrize(
    ("num_frames", "num_columns", "shown"),
    [(17, 5, [0, 4, 8, 12, 16]), (17, 2, [0, 16]), (17, 1, [0]), (3, 8, [0, 1, 2])],
)
def test_a_sheet_shows_evenly_spaced_frames(
    num_frames: int, num_columns: int, shown: list[int]
) -> None:
    sheet = contact_sheet([ContactSheetRow("a · b", grey_levels(num_frames, 32))], num_columns, 2)
    pixels = np.asarray(sheet)[:, :, 0]
    areas = {level - 10: np.sum(pixels == level) for level in range(10, 10 + num_frames)}
    assert [frame for frame, area in areas.items() if area >= 64 * 64] == shown
    middle = pixels[sheet.height // 2].tolist()
    positions = [middle.index(10 + frame) for frame in shown]
    assert positions == sorted(positions)


def test_a_sheet_keeps_pixels_sharp_at_whole_scales() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([ContactSheetRow("noise", frames)], 1, 3))
    expected = frames[0].repeat(3, axis=0).repeat(3, axis=1)
    left = np.flatnonzero((sheet[sheet.shape[0] // 2] == expected[24, 0]).all(axis=-1))
    windows = [sheet[:, x : x + 48] for x in left]
    tops = range(sheet.shape[0] - 47)
    assert any(np.array_equal(window[y : y + 48], expected) for window in windows for y in tops)


def test_a_sheet_writes_its_labels_beside_the_frames() -> None:
    rows = [ContactSheetRow("x", grey_levels(4, 64)), ContactSheetRow("y", grey_levels(2, 40))]
    labelled = np.asarray(contact_sheet(rows, 4, 1))
    gutter = labelled[:, : np.flatnonzero((labelled == 10).all(axis=-1).any(axis=0))[0]]
    half = len(gutter) // 2
    assert gutter[:half].min() < 128
    assert gutter[half:].min() < 128


def test_a_sheet_grows_no_wider_with_a_very_long_label() -> None:
    short = contact_sheet([ContactSheetRow("i" * 40, grey_levels(2, 64))], 2, 1)
    long = contact_sheet([ContactSheetRow("i" * 4000, grey_levels(2, 64))], 2, 1)
    assert long.size == short.size


def test_a_sheet_refuses_what_it_cannot_draw() -> None:
    row = ContactSheetRow("a", grey_levels(2, 8))
    for rows, num_columns, scale in [([], 4, 1.0), ([row], 0, 1.0), ([row], 4, 0.0)]:
        with pytest.raises(ShapeError, match="a sheet needs"):
            contact_sheet(rows, num_columns, scale)
    with pytest.raises(ShapeError, match=r"row 'b'.*float64"):
        ContactSheetRow("b", np.zeros((1, 8, 8, 3)))


def test_a_summary_is_an_aligned_box() -> None:
    text = format_summary([("videos", "5"), ("bits per clip", "1,153"), ("", "")], "run")
    assert text.splitlines() == [
        "╭─ run ────────────────╮",
        "│ videos         5     │",
        "│ bits per clip  1,153 │",
        "│                      │",
        "╰──────────────────────╯",
    ]


def test_a_summary_breaks_long_values_at_spaces() -> None:
    text = format_summary([("path", "word " * 30 + "x" * 100)], "run")
    inside = [line.strip("│ ") for line in text.splitlines()[1:-1]]
    assert " ".join(inside).split()[:31] == ["path"] + ["word"] * 30
    assert "".join(inside).count("x") == 100


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.text(max_size=50), st.text(alphabet=st.characters(codec="utf-8"))), max_size=4
    ),
    title=st.text(max_size=100),
)
def test_a_summary_never_controls_the_terminal(rows: list[tuple[str, str]], title: str) -> None:
    lines = format_summary(rows, title).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line[0] in "╭│╰" and line[-1] in "╮│╯" for line in lines)


@given(rows=st.lists(st.tuples(st.text("abc 映", max_size=50), st.text("abc 映")), max_size=4))
def test_wide_characters_keep_the_box_straight(rows: list[tuple[str, str]]) -> None:
    columns = {
        len(line) + line.count("映") for line in format_summary(rows, "a 映 run").splitlines()
    }
    assert len(columns) == 1
    assert columns.pop() <= WIDTH_COLUMNS
