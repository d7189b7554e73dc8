"""Which clips of which videos an evaluation looks at, and what it refuses to begin with."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.decoding.interface import DecodeConfig
from pipeline.errors import SourceError
from pipeline.evaluation.clip_reader import ClipReader, _Chosen
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.protocol import (
    ProtocolConfig,
    SplitConfig,
    chosen_videos,
    video_name,
)
from pipeline.records import Clip, ClipWindow, WorkUnit
from pipeline.sources import SourceConfig
from pipeline.storage import StorageConfig
from sweettok.errors import ConfigError
from sweettok.strict_config import load_config
from tests.tiny_corpus import BROKEN, make_corpus
from tests.video_factory import frame_number, make_video

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("evaluate_*.yaml"))
PROTOCOL = {"name": "tiny", "num_frames": 9, "height_px": 32, "width_px": 48}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


WHOLE = SplitConfig()


def names(source: Path, split: SplitConfig = WHOLE, seed: int = 0) -> list[str]:
    units = chosen_videos(SourceConfig(uris=(str(source),)), split, seed)
    return [video_name(unit) for unit in units]


def test_the_order_depends_on_names_and_seed_alone(corpus: Path, tmp_path: Path) -> None:
    found = names(corpus)
    assert len(found) == 6
    elsewhere = tmp_path / "another place" / corpus.name
    shutil.copytree(corpus, elsewhere)
    assert names(elsewhere) == found
    assert names(corpus, seed=1) != found
    assert sorted(names(corpus, seed=1)) == sorted(found)


def test_a_split_takes_the_videos_that_its_list_names(corpus: Path, tmp_path: Path) -> None:
    listed = tmp_path / "testlist01.txt"
    listed.write_text("sub/c.mkv 7\na.mp4\n\n")
    split = SplitConfig(name="test 1", list=str(listed))
    assert sorted(name.rpartition("/")[2] for name in names(corpus, split)) == ["a.mp4", "c.mkv"]
    listed.write_text("sub/c.mkv 7\nsub/a.mp4\n")
    with pytest.raises(SourceError, match=r"1 of 2 lines name no video .*sub/a\.mp4"):
        names(corpus, split)
    listed.write_text("\n")
    with pytest.raises(SourceError, match="nothing at all"):
        names(corpus, split)
    with pytest.raises(SourceError, match=r"none\.txt: cannot be read"):
        names(corpus, SplitConfig(list=str(tmp_path / "none.txt")))


def read(unit: WorkUnit, **changes: Any) -> Any:
    protocol = ProtocolConfig.from_mapping(PROTOCOL | changes)
    decode = DecodeConfig(isolation="none")
    with ClipReader(protocol, decode, StorageConfig()) as reader:
        return reader.read(unit)


def test_windows_are_drawn_from_each_video(tmp_path: Path) -> None:
    make_video(tmp_path / "v.mp4", num_frames=40)
    (unit,) = chosen_videos(SourceConfig(uris=(str(tmp_path),)), SplitConfig(), 0)
    whole = read(unit)
    assert [frame_number(clip[0]) for clip in whole.clips] == [0, 9, 18, 27]
    firsts = set()
    for seed in range(12):
        drawn = read(unit, clips={"hop_frames": 1}, clips_per_video=2, seed=seed)
        starts = [frame_number(clip[0]) for clip in drawn.clips]
        assert starts == sorted(set(starts))
        assert [frame_number(frame) for frame in drawn.clips[0]] == list(
            range(starts[0], starts[0] + 9)
        )
        firsts |= set(starts)
    assert len(firsts) > 8
    assert max(firsts) <= 31
    again = read(unit, clips={"hop_frames": 1}, clips_per_video=2, seed=3)
    same = read(unit, clips={"hop_frames": 1}, clips_per_video=2, seed=3)
    assert np.array_equal(np.stack(again.clips), np.stack(same.clips))


def test_every_window_has_the_same_chance() -> None:
    unit = WorkUnit("v", "v", "", 0)
    drawn: Counter[int] = Counter()
    for seed in range(4000):
        chosen = _Chosen(2, f"{seed} v")
        for index in range(5):
            frames = np.full((1, 1, 1, 3), index, np.uint8)
            chosen.offer(Clip(unit, ClipWindow(index, (0,), 0.0, 0.1), None, frames))  # type: ignore[arg-type]
        drawn.update(int(frames[0, 0, 0, 0]) for frames in chosen.frames())
    assert sum(drawn.values()) == 8000
    assert all(1500 < drawn[index] < 1700 for index in range(5))


def test_a_video_that_fails_gives_no_clip_but_its_reason(corpus: Path) -> None:
    found = {}
    for unit in chosen_videos(SourceConfig(uris=(str(corpus),)), SplitConfig(), 0):
        video = read(unit)
        assert bool(video.clips) != (video.fault is not None)
        if video.fault is not None:
            found[Path(video.name).name] = video.fault.reason.value
    assert found == BROKEN


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_presets_are_complete(path: Path) -> None:
    config = load_config(EvaluateConfig, path)
    assert config.tokenizers
    described = config.protocol.describe()
    assert f"{config.protocol.num_frames}×{config.protocol.height_px}" in described
    assert config.protocol.split.name in described


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tokenizers": []}, "nothing to measure"),
        ({"tokenizers": [{"kind": "still"}, {"kind": "still"}]}, "two rows are called 'still fir"),
        ({"tokenizers": [{"kind": "still", "name": "originals"}]}, "may be called 'originals'"),
        ({"tokenizers": [{"kind": "sweettok"}]}, "kind 'sweettok' needs path"),
        ({"tokenizers": [{"kind": "still", "path": "x"}]}, "kind 'still' reads no path"),
        ({"tokenizers": [{"kind": "codec", "standard": "vp9"}]}, "vp9"),
        ({"tokenizers": [{"kind": "python", "factory": "os.system"}]}, "factory"),
        ({"generated": [{"name": "g", "videos": {"uris": ["x"]}}]}, "feature_networks: name one"),
        ({"generated": [{"name": "g"}]}, "either videos or dataset"),
        ({"protocol": {**PROTOCOL, "num_frame": 9}}, "did you mean 'num_frames'"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], named: str) -> None:
    values = {
        "protocol": PROTOCOL,
        "source": {"uris": ["x"]},
        "tokenizers": [{"kind": "still"}],
        "output": "out",
    }
    with pytest.raises(ConfigError, match=named):
        EvaluateConfig.from_mapping(values | changes)
