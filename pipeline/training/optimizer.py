"""The optimisers of a training run: AdamW for everything, or Muon for the hidden matrices.

Muon orthogonalises the momentum of each hidden weight matrix. At the sizes that a CPU can train it
reached 1.5 dB more than AdamW in the same CPU time, its own arithmetic included (LOG.md).

Source: Jordan et al., https://kellerjordan.github.io/posts/muon (2024); torch.optim.Muon.
"""

from __future__ import annotations

import math
from typing import Literal

import pydantic
import torch
from torch import Tensor, nn

from sweettok import SweetTok
from sweettok.strict_config import StrictConfig


class OptimizerConfig(StrictConfig):
    """Optimiser, warm-up and cosine decay.

    Attributes:
        kind: "adamw", or "muon": Muon for the matrices inside the blocks, AdamW for the rest.
        learning_rate: AdamW's peak rate.
        muon_learning_rate: Muon's peak rate, in AdamW's scale.
        final_fraction: Share of both rates that is left at the end of the run.
        warmup_steps: Steps of linear warm-up.
        beta1, beta2, weight_decay: AdamW's.
        gradient_clip_norm: Largest gradient norm.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = pydantic.Field(default=1e-4, gt=0)
    muon_learning_rate: float = pydantic.Field(default=1e-3, gt=0)
    final_fraction: float = pydantic.Field(default=0.1, ge=0, le=1)
    warmup_steps: int = pydantic.Field(default=1000, ge=0)
    beta1: float = pydantic.Field(default=0.9, ge=0, lt=1)
    beta2: float = pydantic.Field(default=0.99, ge=0, lt=1)
    weight_decay: float = pydantic.Field(default=1e-4, ge=0)
    gradient_clip_norm: float = pydantic.Field(default=1.0, gt=0)


class ModelOptimizer:
    """Steps all parameters of a model and keeps their states as plain tensors.

    Args:
        model: The model; its parameters are taken in their own order, so the same model gives the
            same state names.
        config: Which optimisers.
    """

    def __init__(self, model: SweetTok, config: OptimizerConfig) -> None:
        self.config = config
        matrices, others = (
            _split(model) if config.kind == "muon" else ([], list(model.parameters()))
        )
        self._parameters = [*matrices, *others]
        self._parts: list[tuple[torch.optim.Optimizer, float]] = [
            (
                torch.optim.AdamW(
                    others,
                    lr=config.learning_rate,
                    betas=(config.beta1, config.beta2),
                    weight_decay=config.weight_decay,
                ),
                config.learning_rate,
            )
        ]
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                lr=config.muon_learning_rate,
                momentum=config.beta1,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
            self._parts.append((muon, config.muon_learning_rate))

    def step(self, loss: Tensor, *, rate: float) -> None:
        """One step down the gradient of `loss` at `rate` (0 to 1) of the peak learning rates."""
        for optimizer, peak in self._parts:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = peak * rate
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self.config.gradient_clip_norm)
        for optimizer, _ in self._parts:
            optimizer.step()

    def state_tensors(self) -> dict[str, Tensor]:
        """Moments of all parameters by name, on CPU."""
        return {
            f"{part}.{index}.{key}": value.detach().cpu().contiguous()
            for part, (optimizer, _) in enumerate(self._parts)
            for index, entry in optimizer.state_dict()["state"].items()
            for key, value in entry.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restores what `state_tensors` gave."""
        states: list[dict[int, dict[str, Tensor]]] = [{} for _ in self._parts]
        for name, tensor in tensors.items():
            part, index, key = name.split(".", 2)
            states[int(part)].setdefault(int(index), {})[key] = tensor
        for (optimizer, _), state in zip(self._parts, states, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})


def rate_at(config: OptimizerConfig, num_steps: int, fraction_done: float) -> float:
    """Share of the peak rates: linear warm-up over steps, cosine over the fraction of the run."""
    warmup = min(1.0, (num_steps + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, fraction_done)))
    return warmup * (config.final_fraction + (1 - config.final_fraction) * cosine)


def _split(model: SweetTok) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weight matrices inside encoder and decoder blocks, and everything else."""
    block_lists = [
        part
        for half in (model.encoder, model.decoder)
        for part in half.modules()
        if isinstance(part, nn.ModuleList)
    ]
    inside = {
        id(parameter)
        for blocks in block_lists
        for parameter in blocks.parameters()
        if parameter.ndim == 2
    }
    matrices = [parameter for parameter in model.parameters() if id(parameter) in inside]
    others = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    return matrices, others
