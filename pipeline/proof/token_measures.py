"""The measures that only a tokenizer has: use of its codebooks, what its tokens tell, its costs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.evaluation import BATCH_SIZE, Instruments, Measures, Video, measure
from pipeline.proof.probe import ProbeResult, probe_tokens
from pipeline.proof.spreading import spread_positions
from sweettok.baselines import codebook_choices
from sweettok.baselines.variants import AnyTokenizer
from sweettok.benchmarking.measurement import count_flops
from sweettok.config import SweetTokConfig
from sweettok.metrics import codebook_usage
from sweettok.model import SweetTok
from sweettok.patches import pixels_to_video
from sweettok.tokens import Tokens

# Of the largest gradient of all parameters: rounding leaves less, training more.
_LIVE_GRADIENT = 1e-6
_NOISE = 0.02


@dataclass(frozen=True)
class Costs:
    """What a tokenizer costs.

    Attributes:
        gflop_per_clip: Floating-point operations of one clip's reconstruction, in 10^9.
        num_live_parameters: Parameters that training can move at all.
    """

    gflop_per_clip: float
    num_live_parameters: int


def measure_tokenizer(
    model: AnyTokenizer,
    clips: ClipSet,
    instruments: Instruments,
    *,
    usage_ids_per_code: float,
    probe_training: ClipSet | None,
) -> Measures:
    """Measures `model`, in inference mode, on `clips`.

    Args:
        model: A trained tokenizer.
        clips: Clips that it has not seen.
        instruments: What looks at its reconstructions.
        usage_ids_per_code: Usage and perplexity count so many ids for each code of a codebook,
            spread over the clips: shares of codebooks that were asked equally often compare.
        probe_training: Labelled clips to fit linear readers of the tokens to; None for no probe.
    """
    batches: list[Tokens] = []

    def reconstruct(video: Video) -> Video:
        output = model(video)
        batches.append(output.tokens)
        return output.reconstruction

    measures = measure(reconstruct, clips, instruments)
    tokens = Tokens.concatenated(batches)
    counted, ids_per_code = {}, {}
    for name, (ids, num_codes) in codebook_choices(model, tokens).items():
        chosen = spread_positions(len(ids), round(usage_ids_per_code * num_codes))
        counted[name] = codebook_usage(ids[chosen], num_codes)
        ids_per_code[name] = len(chosen) / num_codes
    measures = measures.including(
        {},
        usage={name: found.usage for name, found in counted.items()},
        perplexity={name: found.perplexity for name, found in counted.items()},
        ids_per_code=ids_per_code,
        probe_bag=None,
        probe_places=None,
    )
    if probe_training is None:
        return measures
    found = _probe(model, probe_training, clips, tokens)
    return measures.including({"probe_bag": found.bag_right, "probe_places": found.places_right})


def equal_ids_per_code(model: SweetTokConfig) -> float:
    """The ids per code that both codebooks of a decoupled tokenizer have in one clip, at least."""
    return min(
        model.num_spatial_tokens / model.num_spatial_words,
        model.num_temporal_tokens / model.num_temporal_words,
    )


def costs_of(model: AnyTokenizer, pixels: UInt8[Tensor, "b t h w c"]) -> Costs:
    """Costs of `model` in inference mode, learnt from a batch of clips."""
    video = pixels_to_video(pixels)
    num_flops = count_flops(lambda: model(video[:1]))
    return Costs(round(num_flops / 1e9, 3), _num_live_parameters(model, video))


def _num_live_parameters(model: AnyTokenizer, video: Video) -> int:
    """Parameters that get a gradient from `video`: by rows in linear layers, else by tensors.

    A query that reads one cell has no use for its query and key matrices, for example: the softmax
    over one is 1 whatever they are. Asked of a copy with some noise, so that it is a property of
    the architecture: layers that begin at zero block gradients only until they have moved.
    """
    asked = copy.deepcopy(model).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in asked.parameters():
            value.add_(_NOISE * torch.randn(value.shape, generator=generator))
    output = asked(video)
    ((output.reconstruction - video).square().mean() + output.quantizer_loss).backward()
    matrices = {id(part.weight) for part in asked.modules() if isinstance(part, nn.Linear)}
    largest = []
    for value in asked.parameters():
        gradient = torch.zeros_like(value) if value.grad is None else value.grad.abs()
        rows = gradient if id(value) in matrices else gradient.reshape(1, -1)
        largest.append((rows.amax(dim=1), rows.shape[1]))
    threshold = _LIVE_GRADIENT * max(float(rows.max()) for rows, _ in largest)
    return sum(int((rows > threshold).sum()) * length for rows, length in largest)


@torch.no_grad()
def _probe(
    model: AnyTokenizer, training: ClipSet, held_out: ClipSet, held_out_tokens: Tokens
) -> ProbeResult:
    """What linear readers of the tokens know of the labels, fitted to `training`."""
    tokens: Sequence[Tokens] = [
        model.encode(pixels_to_video(pixels)) for pixels in training.batches(BATCH_SIZE)
    ]
    return probe_tokens(
        Tokens.concatenated(tokens),
        training.label_tensor,
        held_out_tokens,
        held_out.label_tensor,
        codes=_codes_of(model),
    )


def _codes_of(model: AnyTokenizer) -> tuple[Tensor, Tensor]:
    if isinstance(model, SweetTok):
        quantizers = (model.spatial_quantizer, model.temporal_quantizer)
    else:
        quantizers = model.quantizers()
    spatial, temporal = (quantizer.codebook.current_codes() for quantizer in quantizers)
    return spatial, temporal
