"""How fast sequences are drawn, beside the library's own `generate` with its defaults.

All contenders draw from one model in one process and take turns; what a contender draws is counted
as the library counts: every new id of every sequence. `jobs/benchmark_generate.py` runs it.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydantic
import torch
from jaxtyping import Int
from torch import Tensor

from pipeline.generator.model import Generator, GeneratorConfig, create_generator, load_generator
from pipeline.generator.sampling import (
    SamplingConfig,
    no_class,
    prompts,
    sample,
    sampling_device,
)
from pipeline.sequences.vocabulary import SequenceVocabulary
from pipeline.whole_files import replace_file
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

_DEFAULTS = "library, defaults"


class VocabularySizes(StrictConfig):
    """The sequences that a model with random weights draws.

    Attributes:
        num_words: Words of each codebook.
        num_spatial_tokens: Spatial tokens per clip.
        num_temporal_tokens: Temporal tokens per clip.
    """

    num_words: int = pydantic.Field(default=1024, ge=2)
    num_spatial_tokens: int = pydantic.Field(default=64, ge=1)
    num_temporal_tokens: int = pydantic.Field(default=64, ge=0)

    def vocabulary(self) -> SequenceVocabulary:
        """Its ids."""
        return SequenceVocabulary(
            self.num_words,
            self.num_words,
            self.num_spatial_tokens,
            self.num_temporal_tokens,
            num_tubes=1,
        )


class SamplingBenchmarkConfig(StrictConfig):
    """One run of `jobs/benchmark_generate.py`.

    Attributes:
        generator: Directory of a trained generator; null: random weights of the sizes below.
        model: Sizes of that model.
        vocabulary: What it draws.
        batch_size: Sequences that are drawn at one time.
        num_rounds: Rounds in which every contender draws one batch, after a warm-up round.
        device: "auto": a GPU if there is one.
        output: JSON file with everything measured.
    """

    generator: str | None = None
    model: GeneratorConfig = GeneratorConfig(width=256, head_dim=32, depth=6)
    vocabulary: VocabularySizes = VocabularySizes()
    batch_size: int = pydantic.Field(default=8, ge=1)
    num_rounds: int = pydantic.Field(default=5, ge=1)
    device: str = "auto"
    output: str = "runs/benchmark_generate/result.json"


@dataclass(frozen=True)
class Draw:
    """One batch.

    Attributes:
        num_ids: New ids.
        wall_s: Seconds.
        cpu_s: CPU seconds of the process.
        is_legal: Whether every sequence can be decoded to a clip.
    """

    num_ids: int
    wall_s: float
    cpu_s: float
    is_legal: bool


def benchmark_sampling(config: SamplingBenchmarkConfig) -> str:
    """Measures all contenders; returns the table as text.

    Raises:
        PipelineError: There is no generator in `config.generator`.
    """
    device = sampling_device(config.device)
    if config.generator is None:
        vocabulary = config.vocabulary.vocabulary()
        model = create_generator(config.model, vocabulary).eval()
    else:
        model, vocabulary = load_generator(config.generator)
    torch.nn.Module.to(model, device)
    given = prompts(vocabulary, no_class(config.batch_size)).to(device)
    contenders = _contenders(model, vocabulary, config.batch_size)
    found: dict[str, list[Draw]] = {name: [] for name in contenders}
    for number in range(config.num_rounds + 1):
        for name, draw in contenders.items():
            drawn = _measured(draw, given, vocabulary, device)
            logger.info(
                "%s, %s: %.0f ids/s",
                f"round {number}" if number else "warm-up", name, drawn.num_ids / drawn.wall_s,
            )  # fmt: skip
            if number:
                found[name].append(drawn)
    values = {
        "config": config.to_mapping(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "draws": {name: [asdict(each) for each in draws] for name, draws in found.items()},
    }
    replace_file(Path(config.output), (json.dumps(values, indent=2) + "\n").encode())
    return _table(found)


def _contenders(
    model: Generator, vocabulary: SequenceVocabulary, batch_size: int
) -> Mapping[str, Callable[[Int[Tensor, "b p"]], Int[Tensor, "b l"]]]:
    def of_library(**settings: Any) -> Callable[[Int[Tensor, "b p"]], Int[Tensor, "b l"]]:
        def draw(given: Int[Tensor, "b p"]) -> Int[Tensor, "b l"]:
            library: Any = model
            found: Tensor = library.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=vocabulary.length - given.shape[1],
                **settings,
            )
            return found

        return draw

    def of_ours(**settings: Any) -> Callable[[Int[Tensor, "b p"]], Int[Tensor, "b l"]]:
        sampling = SamplingConfig(batch_size=batch_size, **settings)
        return lambda given: torch.cat(list(sample(model, vocabulary, given, sampling)))

    return {
        _DEFAULTS: of_library(),
        "library, defaults, do_sample": of_library(do_sample=True),
        "sample": of_ours(),
        "sample, growing cache": of_ours(static_cache=False),
        "sample, top_k 100, top_p 0.9": of_ours(top_k=100, top_p=0.9),
        "sample, guidance 2": of_ours(guidance=2.0),
    }


@torch.inference_mode()
def _measured(
    draw: Callable[[Int[Tensor, "b p"]], Int[Tensor, "b l"]],
    given: Int[Tensor, "b p"],
    vocabulary: SequenceVocabulary,
    device: torch.device,
) -> Draw:
    torch.manual_seed(0)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    found = draw(given)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    num_ids = len(found) * (found.shape[1] - given.shape[1])
    return Draw(num_ids, wall_s, cpu_s, _is_legal(found.cpu(), vocabulary))


def _is_legal(found: Int[Tensor, "b l"], vocabulary: SequenceVocabulary) -> bool:
    legal = vocabulary.legal_ids()
    if found.shape[1] != len(legal):
        return False
    return bool(((found >= legal[:, 0]) & (found < legal[:, 1])).all())


def _rates(draws: Sequence[Draw]) -> tuple[list[float], list[float]]:
    """New ids per second and per CPU second."""
    return [each.num_ids / each.wall_s for each in draws], [
        each.num_ids / each.cpu_s for each in draws
    ]


def _median_ratio(own: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(one / other for one, other in zip(own, others, strict=True))


def _table(found: Mapping[str, Sequence[Draw]]) -> str:
    default_wall, default_cpu = _rates(found[_DEFAULTS])
    lines = [
        "| drawn by | tokens/s | × defaults | tokens per CPU-s | × defaults | all legal |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, draws in found.items():
        wall, cpu = _rates(draws)
        ratios = [_median_ratio(wall, default_wall), _median_ratio(cpu, default_cpu)]
        is_legal = "yes" if all(each.is_legal for each in draws) else "no"
        lines.append(
            f"| {name} | {statistics.median(wall):,.0f} | {ratios[0]:.2f} | "
            f"{statistics.median(cpu):,.0f} | {ratios[1]:.2f} | {is_legal} |"
        )
    return "\n".join(lines)
