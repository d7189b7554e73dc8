"""Training without an engine: one model, its losses and optimisers, phase by phase.

    trainer = Trainer(model, config)
    for report in trainer.run(batches_of_phase):
        ...
    trainer.copy_weights_to(model)

Knows neither Ray nor storage. With `torch.distributed` initialised, every worker of the group makes
the same calls on its own clips.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.training.adversary import Adversary
from pipeline.training.ema import MovingAverage
from pipeline.training.model_state import (
    kept_weights,
    learning_tensors,
    load_learning_tensors,
)
from pipeline.training.objective import (
    ALL_LOSSES,
    RECONSTRUCTION_LOSSES,
    tokenizer_losses,
    weighted_sum,
)
from pipeline.training.optimizer import ModelOptimizer
from pipeline.training.parallel import (
    Parallelism,
    first_worker_s,
    gradients_shared,
    num_workers,
    replicate,
    shard_parameters,
)
from pipeline.training.phases import PhaseConfig, TrainingPosition, rate_at
from pipeline.training.precision import autocast, autocast_dtype
from pipeline.training.tensor_names import prefixed, without_prefix
from pipeline.training.trainer_config import TrainerConfig
from sweettok.losses.adversarial import AdversarialConfig, adaptive_weight
from sweettok.losses.perceptual import create_perceptual_distance
from sweettok.metrics import psnr_db
from sweettok.model import SweetTokOutput
from sweettok.patches import pixels_to_video
from sweettok.tokens import Tokens

# Of the clips of an image step: neighbouring frames say the same, and so many cost about a clip.
IMAGE_EVERY_FRAMES = 4


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did, on this worker. Tensors stay on the device until they are read.

    Attributes:
        phase: Name of the phase.
        position: How far the run is after the step.
        losses: Scalars by name, unweighted, means over the step's batches.
        gradient_norm: Scalar, of the tokenizer's gradient before clipping.
        rate: Share of the peak learning rates that the step took.
        psnr_db: Scalar, mean over the step's clips.
        tokens: The tokens of each batch.
    """

    phase: str
    position: TrainingPosition
    losses: dict[str, Tensor]
    gradient_norm: Tensor
    rate: float
    psnr_db: Tensor
    tokens: tuple[Tokens, ...]


class Trainer:
    """Steps a model through the phases of a run.

    Args:
        model: Any module whose `forward(video)` gives a `SweetTokOutput`; moved to `device`.
        config: Phases, losses, optimisers.
        device: Where to train.
        parallelism: How several workers share the model.

    Attributes:
        model: The model, without the wrapper that averages gradients.
        position: How far the run is.
        is_sharded: Whether every worker holds only its part of the state.

    Raises:
        CheckpointError: A weight file of the perceptual network is missing or wrong.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainerConfig,
        *,
        device: torch.device | str = "cpu",
        parallelism: Parallelism = "ddp",
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self.dtype = autocast_dtype(config.precision, self.device)
        self.model = model.to(self.device).train()
        self.is_sharded = parallelism == "fsdp" and num_workers() > 1
        if self.is_sharded:
            shard_parameters(self.model, self.device)
        self.optimizer = ModelOptimizer(self.model, config.optimizer)
        self.average = None if config.ema is None else MovingAverage(self.model, config.ema)
        self.adversary = self._create_adversary()
        self.perceptual = create_perceptual_distance(config.perceptual)
        if self.perceptual is not None:
            self.perceptual.to(self.device).eval()
        self._replica = replicate(
            self.model,
            self.device,
            has_unused_parameters=config.trains_images,
        )
        self.position = TrainingPosition()
        self._begin_phase(is_new=True)

    @property
    def phase(self) -> PhaseConfig:
        """The phase that the next step belongs to; there is none when all are done."""
        return list(self.config.phases.values())[self.position.phase_index]

    @property
    def phase_name(self) -> str:
        """Its name."""
        return list(self.config.phases)[self.position.phase_index]

    @property
    def is_done(self) -> bool:
        """Whether all phases are over."""
        return self.position.phase_index >= len(self.config.phases)

    def run(
        self, batches_of_phase: Callable[[Trainer], Iterator[UInt8[Tensor, "b t h w c"]]]
    ) -> Iterator[StepReport]:
        """Steps until all phases are done.

        Args:
            batches_of_phase: Called at the beginning of every phase, and where a restored run goes
                on: gives the batches from number `phase_step * accumulation_steps` of the phase.

        Raises:
            PipelineError: The batches end before the phase does.
        """
        while not self.is_done:
            phase, index = self.phase, self.position.phase_index
            with contextlib.closing(_as_generator(batches_of_phase(self))) as batches:
                while self.position.phase_index == index:
                    began_s = time.monotonic()
                    chosen = list(islice(batches, phase.accumulation_steps))
                    if len(chosen) < phase.accumulation_steps:
                        raise PipelineError(
                            f"no more training clips at step {self.position.phase_step} of phase "
                            f"{self.phase_name!r}; add videos or use fewer workers"
                        )
                    yield self.step(chosen, began_s=began_s)

    def step(
        self, batches: Sequence[UInt8[Tensor, "b t h w c"]], *, began_s: float | None = None
    ) -> StepReport:
        """One optimiser step over `accumulation_steps` batches of clips.

        Args:
            batches: The clips, uint8 RGB.
            began_s: When the step began, on the monotonic clock; None: now.
        """
        began_s = time.monotonic() if began_s is None else began_s
        phase, name, rate = self.phase, self.phase_name, rate_at(self.phase, self.position)
        self.optimizer.zero_gradients()
        active = self._active_adversary()
        if active is not None:
            active[0].optimizer.zero_gradients()
        parts = [
            self._add_gradients(pixels, number, len(batches))
            for number, pixels in enumerate(batches)
        ]
        gradient_norm = self.optimizer.step(rate=rate)
        if active is not None:
            active[0].optimizer.step(rate=rate)
        if self.average is not None:
            self.average.update()
        self.position = self.position.after_step(self._elapsed_s(phase, began_s))
        report = StepReport(
            phase=name,
            position=self.position,
            losses=_means([losses for losses, _, _ in parts]),
            gradient_norm=gradient_norm,
            rate=rate,
            psnr_db=torch.stack([psnr for _, psnr, _ in parts]).mean(),
            tokens=tuple(tokens for _, _, tokens in parts),
        )
        if self.position.fraction_done(phase) >= 1:
            self.position = self.position.next_phase()
            self._begin_phase(is_new=True)
        return report

    @torch.no_grad()
    def copy_weights_to(self, model: nn.Module) -> None:
        """Copies the weights to keep, averaged ones if there are any, into a plain model.

        All workers call this together. Stored codes of the model are brought up to date.
        """
        model.load_state_dict(kept_weights(self.model, self.average), strict=True)
        refresh = getattr(model, "refresh_codes", None)
        if refresh is not None:
            refresh()

    def state_tensors(self) -> dict[str, Tensor]:
        """All that decides the steps to come, except `position`; all workers call together."""
        tensors = learning_tensors(self.model, self.optimizer, self.average)
        if self.adversary is not None:
            tensors |= prefixed("adversary", self.adversary.state_tensors())
        return tensors

    def load_state_tensors(self, tensors: Mapping[str, Tensor], position: TrainingPosition) -> None:
        """Restores what `state_tensors` gave at `position`."""
        load_learning_tensors(
            tensors, self.model, self.optimizer, self.average, num_steps=position.num_steps
        )
        if self.adversary is not None:
            self.adversary.load_state_tensors(without_prefix("adversary", tensors))
        self.position = position
        self._begin_phase(is_new=False)

    def _begin_phase(self, *, is_new: bool) -> None:
        if self.is_done:
            return
        phase = self.phase
        reset = is_new and phase.reset_optimizer
        if reset:
            self.optimizer.reset()
        if self.adversary is not None and phase.adversarial is not None:
            self.adversary.begin_phase(phase.adversarial, reset_optimizer=reset)

    def _add_gradients(
        self, pixels: Tensor, number: int, num_batches: int
    ) -> tuple[dict[str, Tensor], Tensor, Tokens]:
        """Forward and backward of one batch: its losses, its PSNR, its tokens."""
        is_last = number == num_batches - 1
        video = pixels_to_video(pixels.to(self.device, non_blocking=True))
        if self.phase.is_image_step(self.position.phase_step):
            video = frames_as_images(video)
        with gradients_shared(self._replica, is_last):
            with autocast(self.dtype, self.device):
                output: SweetTokOutput = self._replica(video)
            seed = self.position.num_steps * num_batches + number
            losses, total = self._losses(video, output, seed)
            (total / num_batches).backward()
        reconstruction = output.reconstruction.detach().float()
        active = self._active_adversary()
        if active is not None:
            adversary, settings = active
            losses |= adversary.learn(
                video, reconstruction, settings, num_batches=num_batches, is_last=is_last
            )
        losses = {name: value.detach() for name, value in losses.items()}
        psnr = psnr_db(video, reconstruction.clamp(-1, 1), 2.0).mean()
        return losses | {"total": total.detach()}, psnr, output.tokens

    def _losses(
        self, video: Float[Tensor, "b c t h w"], output: SweetTokOutput, seed: int
    ) -> tuple[dict[str, Tensor], Float[Tensor, ""]]:
        """The losses by name, unweighted, and their weighted sum."""
        phase = self.phase
        losses = tokenizer_losses(video, output, phase.loss, self.perceptual, seed=seed)
        total = weighted_sum(losses, phase.loss, ALL_LOSSES)
        losses |= output.quantizer_terms
        active = self._active_adversary()
        if active is None:
            return losses, total
        adversary, settings = active
        reconstruction = output.reconstruction
        losses["adversarial"] = adversary.judge(reconstruction.float(), settings.kind)
        weight = torch.tensor(settings.weight_at(self.position.phase_step), device=self.device)
        if settings.adaptive:
            # Compared at the pixels themselves: every model has them, sharded or not.
            weight = weight * adaptive_weight(
                weighted_sum(losses, phase.loss, RECONSTRUCTION_LOSSES),
                losses["adversarial"],
                reconstruction,
                settings.max_adaptive_weight,
            )
        losses["adversarial_weight"] = weight
        return losses, total + weight * losses["adversarial"]

    def _active_adversary(self) -> tuple[Adversary, AdversarialConfig] | None:
        """The discriminator and the phase's settings, if it takes part in the next step."""
        settings = self.phase.adversarial
        if settings is None or not settings.is_active_at(self.position.phase_step):
            return None
        assert self.adversary is not None, "created for any phase that has an adversarial part"
        return self.adversary, settings

    def _create_adversary(self) -> Adversary | None:
        if not any(phase.adversarial for phase in self.config.phases.values()):
            return None
        return Adversary(
            self.config.discriminator,
            self.config.discriminator_optimizer,
            seed=self.config.seed,
            device=self.device,
            dtype=self.dtype,
        )

    def _elapsed_s(self, phase: PhaseConfig, began_s: float) -> float:
        """Seconds that the phase's steps took; the first worker's if they decide when it ends."""
        if phase.time_limit_s is not None and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # or a step would take no time
        elapsed_s = self.position.phase_elapsed_s + time.monotonic() - began_s
        return elapsed_s if phase.time_limit_s is None else first_worker_s(elapsed_s, self.device)


def frames_as_images(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "n c 1 h w"]:
    """Every `IMAGE_EVERY_FRAMES`-th frame of the clips, from the first, as an image of its own."""
    return rearrange(video[:, :, ::IMAGE_EVERY_FRAMES], "b c t h w -> (b t) c 1 h w")


def _means(reports: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([report[name] for report in reports]).mean() for name in reports[0]}


def _as_generator(batches: Iterator[Tensor]) -> Generator[Tensor, None, None]:
    """Something that can be closed, whatever `batches` is."""
    try:
        yield from batches
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
