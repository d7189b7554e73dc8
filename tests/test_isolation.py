"""Decoding in a child process: same clips, and no hang, crash or leftover reaches anyone else."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings, InProcessCutter
from pipeline.decoding.fallback import cut_clips
from pipeline.decoding.interface import DecodeConfig
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.decoding.stage import DecodeStage
from pipeline.errors import PipelineError, QuarantineReason, RecordError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import UnitEnd, WorkUnit
from pipeline.storage import StorageConfig, canonical_uri
from sweettok.geometry import ClipGeometry
from tests import video_factory as factory
from tests.decoding_runs import why_no_torchcodec

UNIT = WorkUnit("video", "file:///video.mp4", "fingerprint", 1)


def settings(**decode) -> CutSettings:
    return CutSettings(
        DecodeConfig(**decode),
        ClipConfig(hop_frames=3),
        PreprocessConfig(),
        ClipGeometry(num_frames=5, height_px=32, width_px=32),
    )


def make_stage() -> DecodeStage:
    geometry = ClipGeometry(num_frames=5, height_px=32, width_px=32)
    stage = DecodeStage(DecodeConfig(), ClipConfig(), PreprocessConfig(), geometry, StorageConfig())
    stage.setup()
    return stage


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.make_video(tmp_path_factory.mktemp("videos") / "a.mp4")


@pytest.fixture
def cutter() -> Iterator[IsolatedCutter]:
    cutter = IsolatedCutter(settings(clips_in_flight=2, deadline_s=20))
    yield cutter
    cutter.close()


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while is_running(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not is_running(pid)


def test_the_child_gives_the_same_clips_and_serves_many_files(
    cutter: IsolatedCutter, video: Path
) -> None:
    expected = list(cut_clips(str(video), UNIT, settings()))
    pids = set()
    for _ in range(3):
        clips = list(cut_clips(str(video), UNIT, settings(), cutter))
        pids.add(cutter.child_pid)
        assert len(clips) == len(expected) == 12
        for clip, other in zip(clips, expected, strict=True):
            assert (clip.window, clip.source) == (other.window, other.source)
            assert np.array_equal(clip.frames, other.frames)
    assert len(pids) == 1


def test_the_child_is_light(cutter: IsolatedCutter, video: Path) -> None:
    list(cutter.cut("pyav", str(video)))
    maps = Path(f"/proc/{cutter.child_pid}/maps").read_text()
    assert "libav" in maps
    for heavy in ("torch", "/ray/", "deltalake", "libdecord"):
        assert heavy not in maps


def test_record_errors_cross_with_all_they_say(cutter: IsolatedCutter, tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("not a video\n" * 50)
    for local in (InProcessCutter(settings()), cutter):
        with pytest.raises(RecordError) as caught:
            list(cut_clips(str(path), UNIT, settings(), local))
        assert caught.value.reason is QuarantineReason.NOT_A_VIDEO
        assert caught.value.error_class == "InvalidDataError"
    pid = cutter.child_pid
    with pytest.raises(RecordError):
        list(cutter.cut("pyav", str(path)))
    assert cutter.child_pid == pid


def test_names_that_are_not_text_reach_the_child(
    cutter: IsolatedCutter, video: Path, tmp_path: Path
) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff %41.mp4")
    Path(os.fsdecode(path)).write_bytes(video.read_bytes())
    assert len(list(cutter.cut("pyav", os.fsdecode(path)))) == 12


def test_a_crash_costs_one_file(cutter: IsolatedCutter, video: Path) -> None:
    clips = cutter.cut("pyav", str(video))
    next(clips)
    crashed_pid = cutter.child_pid
    os.kill(crashed_pid, signal.SIGSEGV)
    with pytest.raises(RecordError, match="SIGSEGV") as caught:
        list(clips)
    assert caught.value.reason is QuarantineReason.DECODER_CRASH
    assert len(list(cutter.cut("pyav", str(video)))) == 12
    assert cutter.child_pid != crashed_pid


def test_a_crash_is_taken_over_without_repeating_clips(cutter: IsolatedCutter, video: Path) -> None:
    clips = cut_clips(str(video), UNIT, settings(), cutter)
    got = [next(clips)]
    os.kill(cutter.child_pid, signal.SIGKILL)
    got += clips
    assert [clip.window.clip_index for clip in got] == list(range(12))
    assert (got[0].source.decoder, got[-1].source.decoder) == ("pyav", "decord")


def test_a_hang_ends_at_the_deadline(video: Path) -> None:
    cutter = IsolatedCutter(settings(clips_in_flight=1, deadline_s=0.5))
    clips = cutter.cut("pyav", str(video))
    next(clips)
    hanging_pid = cutter.child_pid
    os.kill(hanging_pid, signal.SIGSTOP)
    started_s = time.monotonic()
    with pytest.raises(RecordError, match=r"deadline_s = 0\.5") as caught:
        list(clips)
    assert time.monotonic() - started_s < 5
    assert caught.value.reason is QuarantineReason.DEADLINE_EXCEEDED
    assert wait_until_gone(hanging_pid)
    cutter.close()


def test_a_slow_consumer_is_not_a_hang(video: Path) -> None:
    cutter = IsolatedCutter(settings(clips_in_flight=1, deadline_s=2.0))
    clips = cutter.cut("pyav", str(video))
    next(clips)
    time.sleep(2.5)
    assert len(list(clips)) == 11
    cutter.close()


def test_the_child_waits_for_a_slow_consumer(video: Path, tmp_path: Path) -> None:
    """Back-pressure: with all slots full the child sleeps instead of decoding on."""
    long_video = factory.make_video(tmp_path / "long.mp4", num_frames=250)
    cutter = IsolatedCutter(settings(clips_in_flight=2))
    clips = cutter.cut("pyav", str(long_video))
    next(clips)
    time.sleep(1.0)
    ticks = [Path(f"/proc/{cutter.child_pid}/stat").read_text().split()[13:15]]
    time.sleep(0.3)
    ticks.append(Path(f"/proc/{cutter.child_pid}/stat").read_text().split()[13:15])
    assert ticks[0] == ticks[1]
    assert len(list(clips)) == 81
    cutter.close()


def test_giving_up_a_file_frees_everything_for_the_next(
    cutter: IsolatedCutter, video: Path
) -> None:
    clips = cutter.cut("pyav", str(video))
    next(clips)
    abandoned_pid = cutter.child_pid
    clips.close()
    assert wait_until_gone(abandoned_pid)
    assert len(list(cutter.cut("pyav", str(video)))) == 12


def test_nothing_is_left_behind(video: Path) -> None:
    def resources() -> tuple[int, list[str]]:
        gc.collect()
        return len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))

    before = resources()
    for _ in range(3):
        cutter = IsolatedCutter(settings())
        clips = cutter.cut("pyav", str(video))
        next(clips)
        pid = cutter.child_pid
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RecordError):
            list(clips)
        cutter.close()
        cutter.close()
        assert wait_until_gone(pid)
    del clips, cutter
    assert resources() == before


PARENT = """
import sys, time
from pathlib import Path
from tests.test_isolation import IsolatedCutter, settings
cutter = IsolatedCutter(settings(clips_in_flight=1))
clips = cutter.cut("pyav", sys.argv[1])
next(clips)
print(cutter.child_pid, flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


@pytest.mark.parametrize("ending", ["exit", "wait"])
def test_no_child_outlives_its_parent(video: Path, ending: str) -> None:
    """Neither after an ordinary end in the middle of a file nor after kill -9."""
    root = Path(__file__).parent.parent
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(video), ending],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with parent:
        child_pid = int(parent.stdout.readline())
        if ending == "wait":
            assert is_running(child_pid)
            parent.kill()
    assert wait_until_gone(child_pid)


@pytest.mark.parametrize("interpreter", ["/bin/false", "/no/such/python"])
def test_a_child_that_cannot_start_stops_the_job(
    video: Path, monkeypatch: pytest.MonkeyPatch, interpreter: str
) -> None:
    """That is nobody's file's fault: not one of a million files may be quarantined for it."""
    monkeypatch.setattr(sys, "executable", interpreter)
    unit = WorkUnit("video", canonical_uri(video), "fingerprint", 1)
    with pytest.raises(PipelineError, match="decoding process cannot start") as caught:
        list(make_stage().process(unit))
    assert not isinstance(caught.value, RecordError)


def test_the_stage_in_a_process(video: Path) -> None:
    stage = make_stage()
    unit = WorkUnit("video", canonical_uri(video), "fingerprint", 1)
    *clips, end = stage.process(unit)
    stage.close()
    assert end == UnitEnd(unit, 8)
    assert len({clip.clip_id for clip in clips}) == 8


BROKEN_TORCHCODEC = {
    "missing": "raise ModuleNotFoundError(\"No module named 'torchcodec'\")\n",
    "without FFmpeg": "raise RuntimeError('Could not load libtorchcodec.\\nLikely causes: …')\n",
}


@pytest.mark.parametrize("state", BROKEN_TORCHCODEC)
def test_an_optional_decoder_that_cannot_load_stops_the_job(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Asked for and not there: one line, and no file is quarantined for it."""
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text(BROKEN_TORCHCODEC[state])
    monkeypatch.syspath_prepend(tmp_path)
    cutter = IsolatedCutter(settings(decoders=("pyav", "torchcodec")))
    with pytest.raises(PipelineError, match=r"pip install 'sweettok\[torchcodec\]'") as caught:
        list(cutter.cut("pyav", str(video)))
    assert not isinstance(caught.value, RecordError)
    assert "\n" not in str(caught.value)
    assert "decode.decoders" in str(caught.value)
    assert cutter.child_pid is None


def test_torchcodec_in_the_child(video: Path) -> None:
    if reason := why_no_torchcodec():
        pytest.skip(reason)
    cutter = IsolatedCutter(settings(decoders=("torchcodec",)))
    clips = list(cut_clips(str(video), UNIT, settings(decoders=("torchcodec",)), cutter))
    cutter.close()
    assert {clip.source.decoder for clip in clips} == {"torchcodec"}
    for clip, other in zip(clips, cut_clips(str(video), UNIT, settings()), strict=True):
        assert clip.clip_id == other.clip_id
        assert np.abs(clip.frames.astype(int) - other.frames).mean() < 1
