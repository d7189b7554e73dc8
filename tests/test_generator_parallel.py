"""Two real worker processes: DDP and FSDP teach a generator what one worker with all clips does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource
from pipeline.generator.evaluation import GeneratorEvaluation
from pipeline.generator.model import GeneratorConfig, create_generator
from pipeline.generator.trainer import GeneratorTrainer
from pipeline.generator.training_config import GeneratorTrainingConfig
from pipeline.sequences.vocabulary import SequenceVocabulary
from pipeline.training.parallel import num_workers, worker_rank
from sweettok.tokens import Tokens
from tests.token_samples import commit_all, unit_records, work_unit
from tests.training_workers import run_workers

WORDS = SequenceVocabulary(30, 20, 6, 8, 2, ("run", "sit"))
TINY = GeneratorConfig(width=32, head_dim=16, depth=2)
NUM_STEPS, ACCUMULATION, GLOBAL_BATCH = 6, 2, 4
# Sums of gradients come in another order; AdamW turns that into a share of its rate.
LOSS_TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}
WEIGHT_TOLERANCE = {"rtol": 1e-3, "atol": 2e-5}


def started_trainer(parallelism: str) -> GeneratorTrainer:
    config = GeneratorTrainingConfig.from_mapping(
        {
            "num_steps": NUM_STEPS,
            "accumulation_steps": ACCUMULATION,
            "warmup_steps": 2,
            "class_dropout": 0.0,  # each worker drops classes of its own
            "optimizer": {"learning_rate": 1e-3, "beta2": 0.95, "weight_decay": 0.1},
            "ema": {"decay": 0.9},
        }
    )
    return GeneratorTrainer(
        create_generator(TINY, WORDS, seed=1),
        WORDS,
        config,
        parallelism="fsdp" if parallelism == "fsdp" else "ddp",
    )


def share_of_batch(number: int) -> Tensor:
    """This worker's rows of a batch that is the same for any number of workers."""
    random = torch.Generator().manual_seed(number)
    tokens = Tokens(
        torch.randint(0, 30, (GLOBAL_BATCH, 6), generator=random),
        torch.randint(0, 20, (GLOBAL_BATCH, 8), generator=random),
    )
    sequences = WORDS.to_sequences(tokens, torch.tensor([4, 5, 4, 5]))
    rows = GLOBAL_BATCH // num_workers()
    return sequences[worker_rank() * rows :][:rows]


def train(trainer: GeneratorTrainer) -> Tensor:
    """The loss and gradient norm of every step that is left."""
    curve = []
    while not trainer.is_done:
        first = trainer.num_steps * ACCUMULATION
        step = trainer.step([share_of_batch(first + part) for part in range(ACCUMULATION)])
        curve.append(torch.stack([step.losses["total"], step.gradient_norm]))
    return torch.stack(curve)


def curve_and_state(parallelism: str) -> dict[str, Tensor]:
    trainer = started_trainer(parallelism)
    assert trainer.is_sharded == (parallelism == "fsdp")
    tensors = {"curve": train(trainer)} | trainer.state_tensors()
    kept = create_generator(TINY, WORDS)
    trainer.copy_weights_to(kept)
    return tensors | {f"kept/{name}": value for name, value in kept.state_dict().items()}


def restored_state(saved_by: str, restored_by: str) -> dict[str, Tensor]:
    """The state at the end if, after three steps, other trainers go on from the saved tensors."""
    trainer = started_trainer(saved_by)
    for number in range(3):
        trainer.step([share_of_batch(number * ACCUMULATION + part) for part in range(ACCUMULATION)])
    saved = {name: value.clone() for name, value in trainer.state_tensors().items()}
    other = started_trainer(restored_by)
    other.load_state_tensors(saved, 3)
    train(other)
    return other.state_tensors()


def work_of_two(directory: Path) -> None:
    found = {parallelism: curve_and_state(parallelism) for parallelism in ("ddp", "fsdp")}
    for parallelism, tensors in found.items():
        safetensors.torch.save_file(tensors, directory / f"{parallelism}{worker_rank()}")
        for name, tensor in restored_state(parallelism, parallelism).items():
            assert torch.equal(tensor, tensors[name]), f"{parallelism}: {name}"
    for name, tensor in restored_state("ddp", "fsdp").items():
        torch.testing.assert_close(tensor, found["ddp"][name], **WEIGHT_TOLERANCE)


def test_fsdp_is_ddp_is_one_worker_and_goes_on_exactly(tmp_path: Path) -> None:
    run_workers(work_of_two, 2, tmp_path)
    alone = curve_and_state("ddp")
    first = {}
    for parallelism in ("ddp", "fsdp"):
        first[parallelism], second = (
            safetensors.torch.load_file(tmp_path / f"{parallelism}{rank}") for rank in range(2)
        )
        assert first[parallelism].keys() == alone.keys()
        for name, tensor in first[parallelism].items():
            assert torch.equal(tensor, second[name]), f"{parallelism}: {name}"
    learned = [name for name in alone if name.startswith(("model/", "average/", "kept/"))]
    assert len(learned) > 30
    for found, expected in (("ddp", alone), ("fsdp", alone), ("fsdp", first["ddp"])):
        torch.testing.assert_close(first[found]["curve"], expected["curve"], **LOSS_TOLERANCE)
        for name in learned:
            torch.testing.assert_close(first[found][name], expected[name], **WEIGHT_TOLERANCE)
    before = create_generator(TINY, WORDS, seed=1).state_dict()
    moved = alone["model/lm_head.weight"] - before["lm_head.weight"]
    assert moved.abs().max() > 100 * WEIGHT_TOLERANCE["atol"]


def looked(directory: Path, root: Path) -> None:
    """Losses of 5 held-out clips and of 1, and what is drawn for 5 classes, on this worker."""
    config = TrainGeneratorConfig.from_mapping(
        {
            "data": {"dataset": {"uri": str(root)}, "class_column": "label"},
            "training": {"num_steps": 1, "batch_size_per_worker": 2},
            "run": {"storage_path": "unused", "output": "unused"},
        }
    )
    assert config.evaluation is not None
    source = TokenSource.open(config.data)
    model = create_generator(TINY, source.vocabulary, seed=1).eval()
    found = {}
    for max_clips in (5, 1):
        evaluation = GeneratorEvaluation(
            config.evaluation.model_copy(update={"max_clips": max_clips}),
            config.data,
            source,
            config.training,
            device=torch.device("cpu"),
            has_tokenizer=False,
        )
        found[str(max_clips)] = evaluation.look(model).losses
    _, class_ids = source.held_out_clips(5)
    drawn = evaluation._drawn_by_all(model, class_ids)
    assert torch.equal(drawn[:, 1], class_ids)
    assert source.vocabulary.is_legal(drawn).all()
    assert len(drawn.unique(dim=0)) == 5
    text = json.dumps({"losses": found, "drawn": drawn.tolist()})
    (directory / f"{worker_rank()}.json").write_text(text)


def test_two_workers_see_what_one_sees_even_if_one_has_no_clip(tmp_path: Path) -> None:
    root = tmp_path / "tokens"
    for number in range(2):
        unit = work_unit(f"{number}.mp4", label=("cat", "dog")[number % 2])
        commit_all(root, unit_records(unit, 3))
    (tmp_path / "alone").mkdir()
    looked(tmp_path / "alone", root)
    run_workers(looked, 2, tmp_path, root)
    alone, first, second = (
        json.loads((tmp_path / name).read_text()) for name in ("alone/0.json", "0.json", "1.json")
    )
    assert first == second
    for max_clips, losses in alone["losses"].items():
        assert first["losses"][max_clips] == pytest.approx(losses, rel=1e-5)
