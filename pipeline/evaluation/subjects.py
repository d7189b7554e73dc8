"""What is evaluated, by configuration: tokenizers of this project, of others, and video codecs."""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import pydantic
import torch

from pipeline.errors import PipelineError
from pipeline.evaluation.bitstream import Standard
from pipeline.evaluation.feature_networks import file_sha256
from pipeline.evaluation.matched_codec import MatchedCodec, RateConfig
from pipeline.evaluation.protocol import ProtocolConfig
from pipeline.evaluation.tokenizers import StillPicture, VideoTokenizer, WordTokenizer
from pipeline.evaluation.video_codec import RECIPES
from pipeline.proof.run_files import TRAINED_FILE
from pipeline.proof.run_training import load_run
from pipeline.records import stable_id
from sweettok.model import SweetTok
from sweettok.patches import NUM_CHANNELS
from sweettok.strict_config import StrictConfig

STANDARD_NAMES = {"h264": "H.264", "h265": "H.265", "av1": "AV1"}
# A kind's own keys: those that it needs, and those that it may have.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sweettok": (("path",), ()),
    "compared": (("path",), ()),
    "codec": (("standard",), ("rate",)),
    "python": (("factory",), ("arguments", "version")),
    "still": ((), ()),
}


class TokenizerConfig(StrictConfig):
    """One row of the table.

    Attributes:
        kind: "sweettok", a saved tokenizer; "compared", a run of `jobs/compare_methods.py` (plain
            patches and the other baselines among them); "codec", H.264, H.265 or AV1; "python",
            any object of yours; "still", the first frame all the time, as a yardstick.
        name: What the table calls it; null makes one up.
        path: Directory or hub id of a "sweettok"; directory of a "compared" run.
        standard: Of a "codec": "h264", "h265" or "av1".
        rate: Of a "codec": how many bits it may spend.
        factory: Of a "python" tokenizer: "package.module:function", which gives a
            `pipeline.evaluation.tokenizers.VideoTokenizer`.
        arguments: Keyword arguments of the function.
        version: Names its weights and code. Measures are found again under the same version only;
            null measures it anew every time.
    """

    kind: Literal["sweettok", "compared", "codec", "python", "still"]
    name: str | None = pydantic.Field(default=None, min_length=1)
    path: str | None = None
    standard: Standard | None = None
    rate: RateConfig | None = None
    factory: str | None = pydantic.Field(default=None, pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    version: str | None = None

    @pydantic.model_validator(mode="after")
    def _keys_fit_the_kind(self) -> TokenizerConfig:
        needed, allowed = _KEYS[self.kind]
        for key in ("path", "standard", "rate", "factory", "arguments", "version"):
            given = bool(getattr(self, key))
            if key in needed and not given:
                raise ValueError(f"kind {self.kind!r} needs {key}")
            if given and key not in needed + allowed:
                raise ValueError(f"kind {self.kind!r} reads no {key}; take it out")
        return self

    @property
    def label(self) -> str:
        """What the table calls it."""
        if self.name is not None:
            return self.name
        if self.kind == "codec":
            assert self.standard is not None
            bits = None if self.rate is None else self.rate.bits_per_clip
            budget = "matched bits" if bits is None else f"{bits:g} bits"
            return f"{STANDARD_NAMES[self.standard]} at {budget}"
        if self.kind == "still":
            return "still first frame"
        return (self.path or self.factory or "").strip("/")


@dataclass(frozen=True, eq=False)
class Subject:
    """A loaded row.

    Attributes:
        label: What the table calls it.
        tokenizer: What encodes and decodes.
        identity: Hash of everything that decides what it makes of a clip; None if nobody knows.
        facts: What the result says of it.
    """

    label: str
    tokenizer: VideoTokenizer
    identity: str | None
    facts: dict[str, Any]


def load_subjects(
    rows: tuple[TokenizerConfig, ...], protocol: ProtocolConfig, device: torch.device
) -> list[Subject]:
    """Loads all rows; codecs without a budget get that of the first tokenizer that has ids.

    Raises:
        PipelineError: A factory cannot be called, or a codec has nothing to be matched with.
        CheckpointError: A saved tokenizer is missing or was altered.
    """
    subjects: dict[int, Subject] = {}
    for number, row in enumerate(rows):
        if row.kind != "codec":
            subjects[number] = _LOADERS[row.kind](row, device)
    budget = None
    for number, row in enumerate(rows):
        if row.kind == "codec":
            rate = row.rate or RateConfig()
            if rate.bits_per_clip is None and budget is None:
                budget = _budget(subjects, protocol, device)
            subjects[number] = _codec(row, rate, rate.bits_per_clip or budget)
    return [subjects[number] for number in range(len(rows))]


def _budget(
    subjects: dict[int, Subject], protocol: ProtocolConfig, device: torch.device
) -> float | None:
    """Bits that the first tokenizer with ids spends on a clip."""
    sizes = (protocol.num_frames, protocol.height_px, protocol.width_px)
    for subject in subjects.values():
        if subject.tokenizer.codebook_sizes:
            grey = torch.zeros(1, NUM_CHANNELS, *sizes, device=device)
            return float(subject.tokenizer.encode(grey).bits[0])
    return None


def _sweettok(row: TokenizerConfig, device: torch.device) -> Subject:
    assert row.path is not None
    model = SweetTok.from_pretrained(row.path).to(device)
    facts = {"path": row.path, "num_parameters": model.num_parameters}
    identity = stable_id("sweettok", _state_hash(model), model.config.to_yaml())
    return Subject(row.label, WordTokenizer(model), identity, facts)


def _compared(row: TokenizerConfig, device: torch.device) -> Subject:
    assert row.path is not None
    model, variant = load_run(Path(row.path))
    facts = {"path": row.path, "variant": variant, "num_parameters": model.num_parameters}
    identity = stable_id("compared", variant, file_sha256(Path(row.path) / TRAINED_FILE))
    return Subject(row.label, WordTokenizer(model.to(device)), identity, facts)


def _codec(row: TokenizerConfig, rate: RateConfig, bits_per_clip: float | None) -> Subject:
    if bits_per_clip is None:
        raise PipelineError(
            f"tokenizers: {row.label!r} has no tokenizer to be matched with; set "
            "rate.bits_per_clip, or name a tokenizer too"
        )
    assert row.standard is not None
    recipe = RECIPES[row.standard]
    facts = {
        "encoder": recipe.encoder,
        "options": dict(recipe.options) | {"preset": rate.preset or recipe.default_preset},
        "ffmpeg": {name: ".".join(map(str, of)) for name, of in av.library_versions.items()},
        "budget_bits_per_clip": bits_per_clip,
        "tolerance": rate.tolerance,
        "reductions": [reduction.to_mapping() for reduction in rate.reductions],
        "counted": "coded pictures; no start codes, parameter sets, messages or container",
    }
    codec = MatchedCodec(row.standard, bits_per_clip, rate)
    identity = stable_id("codec", row.standard, json.dumps(facts, sort_keys=True))
    return Subject(row.label, codec, identity, facts)


def _python(row: TokenizerConfig, device: torch.device) -> Subject:
    assert row.factory is not None
    module, _, function = row.factory.partition(":")
    try:
        factory = getattr(importlib.import_module(module), function)
        tokenizer = factory(**row.arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise PipelineError(
            f"tokenizers: factory {row.factory} with {row.arguments} fails: {error}; it must be "
            "importable here (PYTHONPATH) and take these keyword arguments"
        ) from error
    missing = [
        name for name in ("codebook_sizes", "encode", "decode") if not hasattr(tokenizer, name)
    ]
    if missing:
        raise PipelineError(
            f"tokenizers: what {row.factory} gives has no {', '.join(missing)}; see "
            "pipeline/evaluation/tokenizers.py"
        )
    identity = None
    if row.version is not None:
        arguments = json.dumps(row.arguments, sort_keys=True)
        identity = stable_id("python", row.factory, arguments, row.version)
    if isinstance(tokenizer, torch.nn.Module):
        tokenizer.to(device).eval()
    facts = {"factory": row.factory, "arguments": row.arguments, "version": row.version}
    return Subject(row.label, tokenizer, identity, facts)


def _still(row: TokenizerConfig, _: torch.device) -> Subject:
    return Subject(row.label, StillPicture(), "still", {})


_LOADERS = {
    "sweettok": _sweettok,
    "compared": _compared,
    "python": _python,
    "still": _still,
}


def _state_hash(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        )
    return digest.hexdigest()
