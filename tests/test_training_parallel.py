"""Two real worker processes: DDP and FSDP compute what one worker computes with all the clips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from pipeline.training.config import TrainConfig
from pipeline.training.evaluation import evaluate
from pipeline.training.parallel import num_workers, share_of_worker, worker_rank
from pipeline.training.state import TrainingProgress, load_checkpoint, save_checkpoint
from pipeline.training.state import training_tensors as checkpoint_tensors
from pipeline.training.trainer import Trainer
from pipeline.training.trainer_config import TrainerConfig
from pipeline.training.usage import UsageMeter
from sweettok import SweetTok
from sweettok.errors import ConfigError
from tests.tiny_models import random_lexicon, tiny_config
from tests.training_workers import run_workers, train_values

GLOBAL_BATCH = 4
PHASES = {
    "image": {"num_steps": 2, "num_frames": 1, "warmup_steps": 0},
    "video": {"num_steps": 3, "warmup_steps": 0, "accumulation_steps": 2},
    "adversarial": {"num_steps": 2, "warmup_steps": 0, "accumulation_steps": 2,
                    "adversarial": {"start_step": 0, "weight": 0.5}},
}  # fmt: skip
SHAPE = (16, 32, 3)


def started_trainer(parallelism: str) -> Trainer:
    # The entropy term is of each worker's own latents; without it, two workers are one.
    model_config = tiny_config(
        geometry={"num_frames": 5, "height_px": SHAPE[0], "width_px": SHAPE[1]},
        quantizer={"code_dim": 8, "graph_hidden_dim": 16, "entropy_weight": 0.0},
    )
    torch.manual_seed(0)
    model = SweetTok(model_config, random_lexicon(num_spatial=96, num_temporal=64, word_dim=24))
    config = TrainerConfig.from_mapping(
        {
            "phases": PHASES,
            "ema": {},
            "optimizer": {"learning_rate": 1e-3},
            "discriminator": {"width": 16, "depth": 1, "num_temporal_halvings": 1},
            "discriminator_optimizer": {"learning_rate": 1e-3},
        }
    )
    assert parallelism in ("ddp", "fsdp")
    return Trainer(model, config, parallelism="fsdp" if parallelism == "fsdp" else "ddp")


def share_of_batches(trainer: Trainer) -> Iterator[Tensor]:
    """This worker's rows of batches that are the same for any number of workers."""
    phase, position = trainer.phase, trainer.position
    rows = GLOBAL_BATCH // num_workers()
    number = position.phase_step * phase.accumulation_steps
    while True:
        generator = torch.Generator().manual_seed(1000 * position.phase_index + number)
        shape = (GLOBAL_BATCH, phase.num_frames or 5, *SHAPE)
        batch = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        yield batch[worker_rank() * rows :][:rows]
        number += 1


def curve_and_state(parallelism: str) -> dict[str, Tensor]:
    """Losses and gradient norms of all steps, word counts, and the state at the end."""
    trainer = started_trainer(parallelism)
    meter = UsageMeter(96, 64)
    curve = []
    for report in trainer.run(share_of_batches):
        for tokens in report.tokens:
            meter.add(tokens)
        loss = report.losses["total"].clone()
        if num_workers() > 1:
            torch.distributed.all_reduce(loss)
        curve.append(torch.stack([loss / num_workers(), report.gradient_norm]))
    spatial, temporal = meter.read()
    tensors = {"curve": torch.stack(curve), "spatial": spatial.counts, "temporal": temporal.counts}
    return tensors | trainer.state_tensors()


def work_of_two(directory: Path) -> None:
    for parallelism in ("ddp", "fsdp"):
        tensors = curve_and_state(parallelism)
        name = directory / f"{parallelism}{worker_rank()}.safetensors"
        safetensors.torch.save_file(tensors, name)
        resume_in_the_middle(parallelism, directory / f"{parallelism}-checkpoint", tensors)


def resume_in_the_middle(parallelism: str, directory: Path, expected: dict[str, Tensor]) -> None:
    """Stops after three steps, restores into new trainers, and must end in the same state."""
    trainer = started_trainer(parallelism)
    steps = trainer.run(share_of_batches)
    for _ in range(3):
        next(steps)
    random_numbers = torch.rand(3)
    torch.manual_seed(100 + worker_rank())
    tensors = checkpoint_tensors(trainer)
    random_numbers = torch.rand(3)
    if worker_rank() == 0:
        directory.mkdir()
        progress = TrainingProgress(trainer.position, {}, {})
        save_checkpoint(directory, tensors, progress)
    torch.distributed.barrier()
    restored = started_trainer(parallelism)
    found = load_checkpoint(directory, restored, {}, {})
    assert (found.position.phase_index, found.position.phase_step) == (1, 1)
    assert torch.equal(torch.rand(3), random_numbers)
    list(restored.run(share_of_batches))
    for name, tensor in restored.state_tensors().items():
        if not name.endswith("codebook.codes"):
            assert torch.equal(tensor, expected[name]), f"{parallelism}: {name}"


def test_two_workers_compute_what_one_does_and_go_on_exactly(tmp_path: Path) -> None:
    run_workers(work_of_two, 2, tmp_path)
    alone = curve_and_state("ddp")
    for parallelism in ("ddp", "fsdp"):
        first, second = (
            safetensors.torch.load_file(tmp_path / f"{parallelism}{rank}.safetensors")
            for rank in range(2)
        )
        assert first.keys() == alone.keys()
        for name, tensor in first.items():
            if not name.endswith("codebook.codes"):
                assert torch.equal(tensor, second[name]), f"{parallelism}: {name}"
        torch.testing.assert_close(first["curve"], alone["curve"], rtol=1e-3, atol=1e-5)
        for kind in ("spatial", "temporal"):
            assert int(first[kind].sum()) == int(alone[kind].sum())
            moved = (first[kind] - alone[kind]).abs().sum() / alone[kind].sum()
            assert moved < 0.05  # a latent between two words may round to the other one
        name = "model/encoder.patch_embedding.tubes.weight"
        torch.testing.assert_close(first[name], alone[name], rtol=1e-2, atol=2e-3)
        learned = [name for name in alone if name.startswith("adversary/weights/")]
        assert learned
        for name in learned:
            torch.testing.assert_close(first[name], alone[name], rtol=1e-2, atol=2e-3)


def evaluated_share(directory: Path) -> None:
    """All measures of three clips and of one, of which this worker looks at its part."""
    model = started_trainer("ddp").model.eval()
    assert isinstance(model, SweetTok)
    for head in (model.decoder.heads.first_frame, model.decoder.heads.tubes):
        torch.nn.init.normal_(head.weight, std=0.3, generator=torch.Generator().manual_seed(1))
    clips = torch.randint(
        0, 256, (3, 5, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    for num_clips in (3, 1):
        share = share_of_worker(num_clips)
        batches = [clips[number : number + 1] for number in share]
        result = evaluate(model, batches, device=torch.device("cpu"), with_images=True)
        found = {"num_clips": result.num_clips, "seen_here": len(share)} | result.scalars()
        (directory / f"{num_clips}of{worker_rank()}.json").write_text(json.dumps(found))


def test_two_workers_evaluate_what_one_does_even_if_one_has_no_clip(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    evaluated_share(tmp_path / "alone")
    run_workers(evaluated_share, 2, tmp_path)
    for num_clips in (3, 1):
        alone, first, second = (
            json.loads((tmp_path / name).read_text())
            for name in (
                f"alone/{num_clips}of0.json",
                f"{num_clips}of0.json",
                f"{num_clips}of1.json",
            )
        )
        assert first.pop("seen_here") + second.pop("seen_here") == alone.pop("seen_here")
        assert first == second == pytest.approx(alone, abs=1e-4)
        assert alone["num_clips"] == num_clips
    assert json.loads((tmp_path / "1of0.json").read_text())["seen_here"] == 0


def test_what_needs_whole_matrices_is_refused_with_fsdp(tmp_path: Path) -> None:
    values = train_values(tmp_path, tmp_path, tmp_path)
    values["workers"] = {"num_workers": 2, "parallelism": "fsdp"}
    TrainConfig.from_mapping(values)
    values["model"]["quantizer"]["codebook"] = "learned"
    with pytest.raises(ConfigError, match=r"quantizer\.codebook is 'learned', which needs whole"):
        TrainConfig.from_mapping(values)
    values["training"]["optimizer"] = {"kind": "muon"}
    with pytest.raises(ConfigError, match=r"optimizer\.kind is 'muon', which needs whole matrices"):
        TrainConfig.from_mapping(values)
