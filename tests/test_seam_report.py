"""The seam report on a real video file: tiles of a random tokenizer, every axis, clear refusals."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.seam_report import SeamConfig, measure_tiled_videos, seam_table
from sweettok.errors import ConfigError
from tests.video_factory import make_video


def config_for(tokenizer: str, video: Path, **size: int) -> SeamConfig:
    return SeamConfig.from_mapping(
        {
            "tokenizer": tokenizer,
            "source": {"uris": [str(video)]},
            "decode": {"isolation": "none"},
            "sizes": [size],
        }
    )


def test_every_axis_with_borders_has_a_row(tokenizer_directory: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 32, 96, 3), dtype=np.uint8)
    video = make_video(tmp_path / "walk.mp4", frames=list(noise))
    config = config_for(tokenizer_directory, video, num_frames=29, height_px=32, width_px=96)
    (measured,) = measure_tiled_videos(config)
    assert [seam.axis for seam in measured.seams] == ["frames", "columns"]
    assert measured.plan.num_tiles > 2
    # An untrained tokenizer gives mid-grey everywhere: borders differ only as the video does.
    for seam in measured.seams:
        assert 0.5 < seam.jump_ratio < 2
    table = seam_table([measured])
    assert table.count("\n") == 3
    assert "| walk.mp4 | 29×32×96 in " in table


def test_a_video_that_is_too_short_is_one_clear_error(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "short.mp4", num_frames=12)
    config = config_for(tokenizer_directory, video, num_frames=29, height_px=32, width_px=48)
    with pytest.raises(SourceError, match=r"short\.mp4: no piece of 29 frames"):
        measure_tiled_videos(config)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"num_frames": 18, "height_px": 64, "width_px": 64}, "use 17 or 21"),
        ({"num_frames": 9, "height_px": 32, "width_px": 48}, "fits into one tile"),
        ({"num_frames": 9, "height_px": 100_000, "width_px": 100_000}, "take a smaller piece"),
    ],
)
def test_sizes_that_cannot_be_tiled_are_refused_before_a_video_is_read(
    tokenizer_directory: str, tmp_path: Path, size: dict[str, int], message: str
) -> None:
    config = config_for(tokenizer_directory, tmp_path / "not_there.mp4", **size)
    with pytest.raises(ConfigError, match=rf"^sizes\[0\].*{message}"):
        measure_tiled_videos(config)
