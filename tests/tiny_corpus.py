"""A small folder of real videos with broken ones among them, and the job configs for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.tokenization import TokenizeConfig
from tests.video_factory import make_video, truncate

GOOD = ("a.mp4", "b b.mp4", "sub/c.mkv")
BROKEN = {"broken.mp4": "truncated", "text.mp4": "not_a_video", "zero.mp4": "empty"}
CLIPS_PER_GOOD_VIDEO = 3


def make_corpus(folder: Path) -> Path:
    """Three good videos of 30 frames (three clips of 9 frames each), and three that are not."""
    for number, name in enumerate(GOOD):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_video(path, num_frames=30, fps=25 + number)
    whole = make_video(folder / "broken.mp4", muxer_options={"movflags": "faststart"})
    truncate(whole, 0.6)
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "zero.mp4").write_bytes(b"")
    return folder


def tokenize_values(corpus: Path, tokenizer: str, dataset: Path) -> dict[str, Any]:
    """Plain values of a `TokenizeConfig` for the corpus."""
    return {
        "source": {"uris": [str(corpus)]},
        "tokenizer": tokenizer,
        "dataset": {"uri": str(dataset)},
        "encode": {"batch_size": 4},
    }


def tokenize_config(corpus: Path, tokenizer: str, dataset: Path, **changes: Any) -> TokenizeConfig:
    """The typed config."""
    return TokenizeConfig.from_mapping(tokenize_values(corpus, tokenizer, dataset) | changes)
