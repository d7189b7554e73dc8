"""The trainer without an engine: phases, accumulation, averages, adversary, resume in-process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.training.adversary import Adversary
from pipeline.training.ema import EmaConfig, MovingAverage
from pipeline.training.optimizer import OptimizerConfig
from pipeline.training.phases import PhaseConfig, TrainingPosition, rate_at
from pipeline.training.precision import autocast_dtype
from pipeline.training.trainer import StepReport, Trainer
from pipeline.training.trainer_config import TrainerConfig
from pipeline.training.usage import UsageMeter
from sweettok import Lexicon, SweetTok
from sweettok.errors import ConfigError
from sweettok.losses.discriminator import DiscriminatorConfig
from sweettok.model import SweetTokOutput
from sweettok.patches import pixels_to_video
from sweettok.tokens import Tokens
from tests.tiny_models import tiny_config

CLIP = (5, 16, 32, 3)
GEOMETRY = {"num_frames": 5, "height_px": 16, "width_px": 32}
SMALL_DISCRIMINATOR = {"width": 16, "depth": 1, "num_temporal_halvings": 1}


class LinearAutoencoder(nn.Module):
    """The smallest thing with a tokenizer's interface: no batch statistics, one frame shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.blocks = nn.ModuleList([nn.Linear(48, 8), nn.Linear(8, 48)])

    def forward(self, video: Tensor) -> SweetTokOutput:
        encode, decode = self.blocks
        reconstruction = decode(encode(video.flatten(1))).view_as(video)
        ids = torch.zeros(len(video), 1, dtype=torch.int64)
        return SweetTokOutput(reconstruction, Tokens(ids, ids[:, :0]), video.new_zeros(()))


def trainer_config(**changes: Any) -> TrainerConfig:
    phases = {"video": {"num_steps": 4, "batch_size_per_worker": 2, "warmup_steps": 0}}
    return TrainerConfig.from_mapping({"phases": phases} | changes)


def tiny_tokenizer(lexicon: Lexicon) -> SweetTok:
    torch.manual_seed(0)
    return SweetTok(tiny_config(geometry=GEOMETRY), lexicon)


def random_batches(trainer: Trainer) -> Iterator[Tensor]:
    """Batches that depend on the phase and their number alone, as from a frame cache."""
    phase, position = trainer.phase, trainer.position
    shape = (phase.num_frames or CLIP[0], *CLIP[1:])
    number = position.phase_step * phase.accumulation_steps
    while True:
        generator = torch.Generator().manual_seed(1000 * position.phase_index + number)
        yield torch.randint(
            0, 256, (phase.batch_size_per_worker, *shape), dtype=torch.uint8, generator=generator
        )
        number += 1


def test_rates_warm_up_and_fall_within_each_phase() -> None:
    phase = PhaseConfig(num_steps=100, final_fraction=0.1, warmup_steps=10, learning_rate_scale=2)

    def rate(phase_step: int) -> float:
        return rate_at(phase, TrainingPosition(phase_step=phase_step, num_steps=7777))

    assert rate(0) == pytest.approx(2 * 0.1)
    assert rate(4) == pytest.approx(2 * 0.5 * (0.1 + 0.9 * 0.996057), rel=1e-5)
    assert rate(50) == pytest.approx(2 * 0.55)
    assert rate(100) == pytest.approx(2 * 0.1)


def test_a_time_limit_ends_the_phase_and_the_rate_follows_it() -> None:
    phase = PhaseConfig(num_steps=100, time_limit_s=10, final_fraction=0, warmup_steps=0)
    late = TrainingPosition(phase_step=10, phase_elapsed_s=5.0)
    assert late.fraction_done(phase) == 0.5
    assert rate_at(phase, late) == pytest.approx(0.5)
    over = TrainingPosition(phase_step=11, phase_elapsed_s=12.0)
    assert rate_at(phase, over) == pytest.approx(0.0)


def test_only_steps_count_against_a_time_limit_and_waiting_for_clips_does() -> None:
    phases = {"timed": {"num_steps": 500, "time_limit_s": 0.3, "warmup_steps": 0}}
    began_s = time.monotonic()
    trainer = Trainer(LinearAutoencoder(), trainer_config(phases=phases))
    time.sleep(0.4)  # as long as starting takes

    def slow_batches(trainer: Trainer) -> Iterator[Tensor]:
        while True:
            time.sleep(0.05)
            yield torch.zeros(2, 1, 4, 4, 3, dtype=torch.uint8)

    elapsed = [0.0]
    for report in trainer.run(slow_batches):
        time.sleep(0.1)  # as long as an evaluation takes
        elapsed.append(report.position.phase_elapsed_s)
    spent_s = time.monotonic() - began_s
    assert elapsed[-2] < 0.3 <= elapsed[-1]
    assert all(after - before >= 0.05 for before, after in pairwise(elapsed))
    assert spent_s - elapsed[-1] >= 0.4 + 0.1 * (len(elapsed) - 1)


def test_two_batches_of_four_make_the_step_of_one_batch_of_eight() -> None:
    pixels = torch.randint(0, 256, (8, 1, 4, 4, 3), dtype=torch.uint8)

    def stepped(**phase: int) -> dict[str, Tensor]:
        values = {"num_steps": 3, "warmup_steps": 0} | phase
        trainer = Trainer(LinearAutoencoder(), trainer_config(phases={"only": values}))
        for _ in range(2):
            trainer.step(pixels.split(trainer.phase.batch_size_per_worker))
        return trainer.model.state_dict()

    once = stepped(batch_size_per_worker=8)
    accumulated = stepped(batch_size_per_worker=4, accumulation_steps=2)
    before = LinearAutoencoder().state_dict()
    for name, tensor in once.items():
        assert (tensor - before[name]).abs().max() > 1e-5, name
        torch.testing.assert_close(accumulated[name], tensor, rtol=1e-5, atol=1e-7)


def test_the_moving_average_is_the_one_of_the_formula() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = MovingAverage(model, EmaConfig(decay=0.3))
    expected = model.weight.detach().clone().double()
    for step in range(6):
        model.weight.data += 1.0 + step
        average.update()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    torch.testing.assert_close(average.state_tensors()["weight"].double(), expected)


def test_averaged_weights_are_what_is_kept(lexicon: Lexicon) -> None:
    trainer = Trainer(
        tiny_tokenizer(lexicon),
        trainer_config(ema={"decay": 0.5}, optimizer={"learning_rate": 1e-2}),
    )
    reports = list(trainer.run(random_batches))
    kept = tiny_tokenizer(lexicon).eval()
    trainer.copy_weights_to(kept)
    assert len(reports) == 4
    name = "encoder.patch_embedding.tubes.weight"
    assert trainer.average is not None
    assert torch.equal(kept.state_dict()[name], trainer.average.state_tensors()[name])
    assert not torch.equal(kept.state_dict()[name], trainer.model.state_dict()[name])
    codebook = kept.spatial_quantizer.codebook
    torch.testing.assert_close(codebook.codes, codebook.project())
    mean = "encoder.spatial_queries.centre.running_mean"
    assert torch.equal(kept.state_dict()[mean], trainer.model.state_dict()[mean])


THREE_PHASES = {
    "image": {"num_steps": 2, "num_frames": 1, "batch_size_per_worker": 3, "warmup_steps": 1},
    "video": {"num_steps": 3, "batch_size_per_worker": 2, "accumulation_steps": 2,
              "loss": {"squared_error": 0.0, "absolute_error": 1.0}},
    "adversarial": {"num_steps": 3, "batch_size_per_worker": 2, "reset_optimizer": True,
                    "adversarial": {"start_step": 1, "adaptive": True}},
}  # fmt: skip


def test_phases_follow_each_other_with_their_own_losses(lexicon: Lexicon) -> None:
    config = trainer_config(phases=THREE_PHASES, discriminator=SMALL_DISCRIMINATOR)
    trainer = Trainer(tiny_tokenizer(lexicon), config)
    temporal = "encoder.temporal_queries.to_latent.weight"
    first = trainer.model.state_dict()[temporal].clone()
    reports: list[StepReport] = []
    moved = []
    for report in trainer.run(random_batches):
        reports.append(report)
        moved.append(not torch.equal(trainer.model.state_dict()[temporal], first))
    assert [report.phase for report in reports] == (
        ["image"] * 2 + ["video"] * 3 + ["adversarial"] * 3
    )
    assert [report.position.num_steps for report in reports] == list(range(1, 9))
    # Motion has no part in images: its weights must not move, not even by weight decay.
    assert moved == [False] * 2 + [True] * 6
    assert reports[0].tokens[0].temporal.shape[1] == 0
    assert len(reports[2].tokens) == 2
    assert "squared_error" in reports[0].losses
    assert "squared_error" not in reports[2].losses
    assert "absolute_error" in reports[2].losses
    has_adversary = ["discriminator" in report.losses for report in reports]
    assert has_adversary == [False] * 6 + [True] * 2
    assert 0 < reports[-1].losses["adversarial_weight"] <= 0.01 * 1e4


def test_image_steps_are_spread_evenly_and_leave_motion_alone(lexicon: Lexicon) -> None:
    phase = {"num_steps": 8, "batch_size_per_worker": 2, "warmup_steps": 0, "image_fraction": 0.25}
    config = trainer_config(phases={"video": phase})
    assert config.trains_images
    trainer = Trainer(tiny_tokenizer(lexicon), config)
    motion = trainer.model.state_dict()["encoder.temporal_queries.to_latent.weight"]
    before = motion.clone()
    numbers = []
    for number, report in enumerate(trainer.run(random_batches), start=1):
        (tokens,) = report.tokens
        is_image = tokens.temporal.shape[1] == 0
        assert torch.equal(motion, before) == is_image
        before = motion.clone()
        if is_image:
            numbers.append(number)
            assert len(tokens.spatial) == 2 * 2  # frames 0 and 4 of the five of two clips
    assert numbers == [4, 8]


def test_the_discriminator_waits_for_its_start_and_then_learns(lexicon: Lexicon) -> None:
    phases = {"video": {"num_steps": 6, "batch_size_per_worker": 2,
                        "adversarial": {"start_step": 2}}}  # fmt: skip
    config = trainer_config(
        phases=phases,
        discriminator=SMALL_DISCRIMINATOR,
        discriminator_optimizer={"learning_rate": 1e-2},
    )
    trainer = Trainer(tiny_tokenizer(lexicon), config)
    assert trainer.adversary is not None
    weight = next(trainer.adversary.discriminator.parameters())
    before = weight.detach().clone()
    moved = [not torch.equal(weight, before) for _ in trainer.run(random_batches)]
    assert moved == [False, False, True, True, True, True]


def test_judging_leaves_the_discriminator_alone_and_learning_the_tokenizer() -> None:
    adversary = Adversary(
        DiscriminatorConfig.from_mapping(SMALL_DISCRIMINATOR),
        OptimizerConfig(),
        seed=0,
        device=torch.device("cpu"),
    )
    phase = PhaseConfig.from_mapping({"num_steps": 1, "adversarial": {"start_step": 0}})
    assert phase.adversarial is not None
    video = torch.rand(2, 3, 5, 16, 16)
    reconstruction = torch.rand(2, 3, 5, 16, 16, requires_grad=True)
    adversary.judge(reconstruction, "hinge").backward()
    assert reconstruction.grad is not None
    assert reconstruction.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in adversary.discriminator.parameters())
    reconstruction.grad = None
    adversary.learn(video, reconstruction, phase.adversarial)
    assert reconstruction.grad is None
    assert all(parameter.grad is not None for parameter in adversary.discriminator.parameters())


def test_a_discriminator_learns_from_two_batches_of_four_as_from_one_of_eight() -> None:
    settings = PhaseConfig.from_mapping(
        {"num_steps": 1, "adversarial": {"start_step": 0, "lecam_weight": 0.0}}
    ).adversarial
    assert settings is not None
    video, reconstruction = torch.rand(2, 8, 3, 5, 16, 16) * 2 - 1

    def gradients(num_batches: int) -> list[Tensor]:
        adversary = Adversary(
            DiscriminatorConfig.from_mapping(SMALL_DISCRIMINATOR),
            OptimizerConfig(),
            seed=0,
            device=torch.device("cpu"),
        )
        parts = zip(video.chunk(num_batches), reconstruction.chunk(num_batches), strict=True)
        for number, (real, fake) in enumerate(parts):
            adversary.learn(
                real,
                fake,
                settings,
                num_batches=num_batches,
                is_last=number == num_batches - 1,
            )
        return [parameter.grad for parameter in adversary.discriminator.parameters()
                if parameter.grad is not None]  # fmt: skip

    once, accumulated = gradients(1), gradients(2)
    assert max(gradient.abs().max() for gradient in once) > 1e-4
    for expected, found in zip(once, accumulated, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_learning_tells_originals_from_reconstructions() -> None:
    adversary = Adversary(
        DiscriminatorConfig.from_mapping(SMALL_DISCRIMINATOR),
        OptimizerConfig(learning_rate=3e-3),
        seed=0,
        device=torch.device("cpu"),
    )
    phase = PhaseConfig.from_mapping({"num_steps": 1, "adversarial": {"start_step": 0}})
    assert phase.adversarial is not None
    original, grey = torch.rand(2, 3, 5, 16, 16) * 2 - 1, torch.zeros(2, 3, 5, 16, 16)
    losses = []
    for _ in range(15):
        adversary.optimizer.zero_gradients()
        losses.append(adversary.learn(original, grey, phase.adversarial)["discriminator"].item())
        adversary.optimizer.step(rate=1.0)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("kind", "interrupted_after"), [("muon", 1), ("adamw", 5), ("muon", 7)])
def test_a_restored_trainer_goes_on_as_if_never_interrupted(
    kind: str, interrupted_after: int, lexicon: Lexicon
) -> None:
    config = trainer_config(
        phases=THREE_PHASES,
        discriminator=SMALL_DISCRIMINATOR,
        optimizer={"kind": kind},
        ema={},
    )
    undisturbed = Trainer(tiny_tokenizer(lexicon), config)
    saved: dict[str, Tensor] = {}
    position = undisturbed.position
    for report in undisturbed.run(random_batches):
        if report.position.num_steps == interrupted_after:
            saved = {name: value.clone() for name, value in undisturbed.state_tensors().items()}
            position = undisturbed.position

    torch.manual_seed(99)
    other = SweetTok(tiny_config(geometry=GEOMETRY), lexicon)
    restored = Trainer(other, config)
    restored.step([torch.zeros(3, 1, *CLIP[1:], dtype=torch.uint8)])
    restored.load_state_tensors(saved, position)
    num_steps = len(list(restored.run(random_batches)))
    assert num_steps == 8 - interrupted_after
    expected, found = undisturbed.state_tensors(), restored.state_tensors()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        if not name.endswith("codebook.codes"):  # made from the parameters when asked for
            assert torch.equal(tensor, found[name]), name


def test_a_state_of_another_model_is_refused(lexicon: Lexicon) -> None:
    config = trainer_config()
    trainer = Trainer(tiny_tokenizer(lexicon), config)
    list(trainer.run(random_batches))
    tensors = trainer.state_tensors()
    tensors["optimizer/decoder.nowhere/exp_avg"] = torch.zeros(1)
    with pytest.raises(PipelineError, match=r"names 'decoder\.nowhere', which the model lacks"):
        trainer.load_state_tensors(tensors, trainer.position)


def test_batches_that_end_too_early_are_one_clear_error(lexicon: Lexicon) -> None:
    trainer = Trainer(tiny_tokenizer(lexicon), trainer_config())
    three = [torch.zeros(2, *CLIP, dtype=torch.uint8)] * 3
    with pytest.raises(PipelineError, match="no more training clips at step 3 of phase 'video'"):
        list(trainer.run(lambda _: iter(three)))


@pytest.mark.parametrize(
    ("precision", "device", "has_native_bf16", "expected"),
    [
        ("auto", "cpu", True, None),
        ("auto", "cuda", True, torch.bfloat16),
        ("auto", "cuda", False, None),
        ("fp32", "cuda", True, None),
        ("bf16", "cpu", False, torch.bfloat16),
    ],
)
def test_bf16_is_for_devices_that_multiply_it(
    precision: Any, device: str, has_native_bf16: bool, expected: torch.dtype | None
) -> None:
    dtype = autocast_dtype(precision, torch.device(device), has_native_bf16=has_native_bf16)
    assert dtype == expected


def test_bf16_passes_keep_weights_and_losses_in_float32(lexicon: Lexicon) -> None:
    phases = {"video": {"num_steps": 1, "warmup_steps": 0}}
    trainer = Trainer(tiny_tokenizer(lexicon), trainer_config(phases=phases, precision="bf16"))
    before = trainer.model.state_dict()["decoder.heads.tubes.weight"].clone()
    report = trainer.step([torch.randint(0, 256, (1, *CLIP), dtype=torch.uint8)])
    after = trainer.model.state_dict()["decoder.heads.tubes.weight"]
    assert all(loss.dtype == torch.float32 for loss in report.losses.values())
    assert after.dtype == torch.float32
    assert not torch.equal(before, after)


def test_usage_is_counted_since_the_last_reading() -> None:
    meter = UsageMeter(4, 8)
    meter.add(Tokens(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[7], [7]])))
    meter.add(Tokens(torch.tensor([[2, 2, -1]]), torch.zeros(1, 0, dtype=torch.int64)))
    spatial, temporal = meter.read()
    assert spatial.counts.tolist() == [1, 3, 2, 0]
    assert (spatial.usage, spatial.num_dead, temporal.num_dead) == (0.75, 1, 7)
    again, _ = meter.read()
    assert again.counts.sum() == 0


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"phases\.video\.loss\.perceptual is 0\.1, but"):
        trainer_config(phases={"video": {"num_steps": 1, "loss": {"perceptual": 0.1}}})
    with pytest.raises(ConfigError, match=r"phases\.video\.loss: one of squared_error"):
        trainer_config(phases={"video": {"num_steps": 1, "loss": {"squared_error": 0}}})
    with pytest.raises(ConfigError, match=r"loss\.quantizer: .*greater than 0"):
        trainer_config(phases={"video": {"num_steps": 1, "loss": {"quantizer": 0}}})
    with pytest.raises(ConfigError, match=r"start_step is 20000, .* num_steps = 9: .*never take"):
        trainer_config(phases={"video": {"num_steps": 9, "adversarial": {}}})
    with pytest.raises(ConfigError, match=r"seed: .*greater than or equal to 0"):
        trainer_config(seed=-1)
    with pytest.raises(ConfigError, match=r"discriminator_optimizer\.kind must be 'adamw'"):
        trainer_config(discriminator_optimizer={"kind": "muon"})


def test_pixels_reach_the_model_in_its_range(lexicon: Lexicon) -> None:
    trainer = Trainer(LinearAutoencoder(), trainer_config())
    pixels = torch.randint(0, 256, (2, 1, 4, 4, 3), dtype=torch.uint8)
    with torch.no_grad():
        video = pixels_to_video(pixels)
        expected = (trainer.model(video).reconstruction - video).square().mean()
    report = trainer.step([pixels])
    torch.testing.assert_close(report.losses["squared_error"], expected)
