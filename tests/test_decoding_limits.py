"""Files made to cost more than they may, or to lead a decoder elsewhere: one row each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings
from pipeline.decoding.interface import DecodeConfig, DecoderName
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import QuarantineReason, RecordError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, ListedVideo, Quarantine, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig
from sweettok.geometry import ClipGeometry
from tests.video_factory import make_video

GEOMETRY = ClipGeometry(num_frames=5, height_px=32, width_px=48)
DECODERS: tuple[DecoderName, ...] = ("pyav", "pyav_two_pass", "decord")


def fates(paths: list[Path], config: DecodeConfig) -> list[tuple[int, Quarantine | None]]:
    """Clips and quarantine of each file, all through one stage."""
    stage = DecodeStage(config, ClipConfig(), PreprocessConfig(), GEOMETRY, StorageConfig())
    stage.setup()
    found = []
    try:
        for path in paths:
            video = ListedVideo(path.as_uri(), path.stat().st_size, "1")
            records = list(stage.process(WorkUnit.from_listed(video)))
            (end,) = [record for record in records if isinstance(record, UnitEnd)]
            found.append((sum(isinstance(it, Clip) for it in records), end.quarantine))
    finally:
        stage.close()
    return found


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return make_video(tmp_path / "good.mp4", num_frames=10)


def test_a_decompression_bomb_is_one_row_and_the_next_file_is_decoded(
    tmp_path: Path, good: Path
) -> None:
    """Half a megabyte that unfolds to gigabytes, with 256 MiB to unfold in."""
    frames = [np.full((4320, 8128, 3), 90, np.uint8)] * 6
    bomb = make_video(tmp_path / "bomb.mp4", codec="mpeg4", frames=frames)
    assert bomb.stat().st_size < 2**20
    config = DecodeConfig(decoders=DECODERS, max_memory_bytes=256 * 2**20)
    (num_bomb, quarantine), (num_good, fine) = fates([bomb, good], config)
    assert num_bomb == 0
    assert quarantine is not None
    assert quarantine.attempts == len(DECODERS)
    assert (num_good, fine) == (2, None)


@pytest.mark.parametrize("limit", [{"max_frames": 29}, {"max_duration_s": 1.0}])
def test_too_many_frames_or_hours_are_refused_by_name(
    tmp_path: Path, limit: dict[str, float]
) -> None:
    path = make_video(tmp_path / "long.mp4", num_frames=30, fps=25)
    ((num_clips, quarantine),) = fates([path], DecodeConfig(isolation="none", **limit))  # type: ignore[arg-type]
    assert num_clips == 0
    assert quarantine is not None
    assert quarantine.reason is QuarantineReason.TOO_LARGE
    assert f"decode.{next(iter(limit))} = " in quarantine.message
    enough = {name: value + 1 for name, value in limit.items()}
    ((num_clips, quarantine),) = fates([path], DecodeConfig(isolation="none", **enough))  # type: ignore[arg-type]
    assert (num_clips, quarantine) == (6, None)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:2.0,\n{}\n#EXT-X-ENDLIST\n"
MPD = '<?xml version="1.0"?><MPD><Period><BaseURL>{}</BaseURL></Period></MPD>'


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_what_is_a_playlist_to_one_decoder_and_a_video_to_another_is_refused(
    tmp_path: Path, decoder: DecoderName, suffix: str
) -> None:
    """decord would follow the first lines to a file that lies in none of the source's roots."""
    private = make_video(tmp_path / "private.mp4", num_frames=30)
    own = make_video(tmp_path / "own.ts", num_frames=30, codec="mpeg2video").read_bytes()
    paths = []
    for number, start in enumerate((HLS, "\ufeff" + HLS, "ffconcat version 1.0\nfile {}\n", MPD)):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(start.format(private).encode() + own)
        paths.append(path)
    for num_clips, quarantine in fates(paths, DecodeConfig(decoders=(decoder,), isolation="none")):
        assert num_clips == 0
        assert quarantine is not None
        assert quarantine.reason is QuarantineReason.NOT_A_VIDEO
        assert "a playlist, not a video" in quarantine.message


def test_the_decoding_child_has_no_credentials(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-for-the-store")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-secret-for-the-cluster")
    cutter = IsolatedCutter(
        CutSettings(DecodeConfig(decoders=("pyav",)), ClipConfig(), PreprocessConfig(), GEOMETRY)
    )
    try:
        clips = cutter.cut("pyav", str(good))
        next(clips)
        environment = Path(f"/proc/{cutter.child_pid}/environ").read_bytes()
    finally:
        cutter.close()
    assert b"PYTHONPATH=" in environment
    assert b"a-secret" not in environment


def test_a_file_that_is_gone_before_it_is_looked_at_is_not_found(tmp_path: Path) -> None:
    from pipeline.decoding.limits import refuse_playlist

    with pytest.raises(RecordError) as caught:
        refuse_playlist(str(tmp_path / "gone.mp4"))
    assert caught.value.reason is QuarantineReason.NOT_FOUND
