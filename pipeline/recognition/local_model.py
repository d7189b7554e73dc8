"""A causal language model of `transformers` on this machine: the class that it holds likeliest.

No text is generated. Of every class's name the log-likelihood after the question is taken, token by
token. What a model prefers whatever is asked (its last example's class, the shorter name) is taken
off: the same names are scored after a question about nothing.

Source: Zhao et al., "Calibrate before use", arXiv:2102.09690 (the question about nothing).
Differs: log-likelihoods are subtracted, where the paper fits a matrix to probabilities.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.recognition.episodes import Episode
from pipeline.recognition.prompts import PromptConfig, PromptWriter
from pipeline.recognition.videos import LabellingConfig
from pipeline.records import stable_id
from sweettok.strict_config import StrictConfig

if TYPE_CHECKING:
    from pipeline.recognition.label_scores import LabelScorer

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_GGUF_PACKAGES = ("gguf", "accelerate")


class LocalModelConfig(StrictConfig):
    """A language model on this machine, asked by the likelihood of the classes' names.

    Attributes:
        kind: "local_model".
        path: Directory of the model and its tokenizer, as `save_pretrained` writes it (weights as
            safetensors), or of a GGUF file.
        gguf_file: Name of that file; needs the packages gguf and accelerate. Null reads the
            directory.
        name: What the table calls it; null takes the last part of `path`.
        prompt: How videos become text.
        calibrate: Take off what the model answers to a question about nothing.
        batch_size: Rows that are computed together; does not change what is answered but for
            rounding.
        precision: "bf16" is for GPUs.
        device: "auto" takes a GPU where there is one.
    """

    kind: Literal["local_model"] = "local_model"
    path: str
    gguf_file: str | None = None
    name: str | None = pydantic.Field(default=None, min_length=1)
    prompt: PromptConfig = PromptConfig()
    calibrate: bool = True
    batch_size: int = pydantic.Field(default=32, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def label(self) -> str:
        """What the table calls it."""
        return self.name or Path(self.path).name


class LocalModel:
    """Weights on disk, hashed at once and loaded when the first question comes.

    Raises:
        PipelineError: There is no model.
    """

    def __init__(self, config: LocalModelConfig) -> None:
        self.config = config
        self.sha256 = model_sha256(Path(config.path), config.gguf_file)
        self._scorer: LabelScorer | None = None

    def scores(
        self, beginning: str, questions: Sequence[str], names: Sequence[str]
    ) -> Float[Tensor, "q n"]:
        """Log-likelihood of every name after every question; see `LabelScorer`."""
        if self._scorer is None:
            self._scorer = self._load()
        return self._scorer.scores(beginning, questions, names)

    def _load(self) -> LabelScorer:
        config = self.config
        _check_packages("transformers", *(_GGUF_PACKAGES if config.gguf_file else ()))
        import transformers

        from pipeline.recognition.label_scores import LabelScorer

        options: dict[str, Any] = {"local_files_only": True}
        if config.gguf_file:
            options["gguf_file"] = config.gguf_file
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(config.path, **options)
            if not config.gguf_file:
                options["use_safetensors"] = True  # nothing is unpickled
            model = transformers.AutoModelForCausalLM.from_pretrained(
                config.path, dtype=_PRECISIONS[config.precision], **options
            )
        except (OSError, ValueError) as error:
            raise PipelineError(
                f"{config.path}: transformers cannot load a causal language model from it "
                f"({' '.join(str(error).split())}); give a directory with config.json, weights as "
                "safetensors and a tokenizer, or a gguf_file in it"
            ) from error
        return LabelScorer(model.eval().to(_device(config.device)), tokenizer, config.batch_size)


class LocalModelReader:
    """Answers with the class whose name the model holds likeliest.

    Args:
        model: The weights.
        writer: Writes the prompts.
        labelling: What is asked.
    """

    def __init__(self, model: LocalModel, writer: PromptWriter, labelling: LabellingConfig) -> None:
        config = model.config
        self._model, self._writer, self._calibrate = model, writer, config.calibrate
        self.identity = stable_id(
            "local model",
            model.sha256,
            config.prompt.to_yaml(),
            config.calibrate,
            config.precision,
            sorted(labelling.spoken.items()),
        )
        self.facts: Mapping[str, Any] = {
            "model": config.gguf_file or Path(config.path).name,
            "sha256": model.sha256,
        }

    def answer(self, episode: Episode) -> list[int | None]:
        """The likeliest class of each question.

        Raises:
            PipelineError: The model cannot be loaded, or a prompt is longer than it can read.
        """
        prompt = self._writer.write(episode)
        questions = [*prompt.questions, *([prompt.nothing] if self._calibrate else [])]
        scores = self._model.scores(prompt.beginning, questions, prompt.names)
        if self._calibrate:
            scores = scores[:-1] - scores[-1]
        return [int(best) for best in scores.argmax(dim=1)]

    def example(self, episode: Episode) -> str:
        """The text before the name of a class."""
        prompt = self._writer.write(episode)
        return prompt.beginning + prompt.questions[0]


def model_sha256(directory: Path, gguf_file: str | None) -> str:
    """Hash of the files that decide what a model says: weights, sizes, tokenizer.

    Raises:
        PipelineError: They are not there.
    """
    if gguf_file:
        files = [directory / gguf_file]
    else:
        files = sorted([*directory.glob("*.safetensors"), *directory.glob("*.json")])
    if not files or not all(path.is_file() for path in files):
        wanted = gguf_file or "model.safetensors"
        raise PipelineError(
            f"{directory}: no {wanted} there; give the directory of a model that transformers "
            "loads, or the name of a GGUF file in it as gguf_file"
        )
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _check_packages(*names: str) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise PipelineError(
            f"a local model needs {', '.join(missing)} (pip install {' '.join(missing)})"
        )


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise PipelineError("device is cuda, but torch finds no GPU here; set device to auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
