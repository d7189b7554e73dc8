"""The generator without an engine: learning, guidance, legal samples, exact resume."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.dataset import TokenDataset
from pipeline.errors import PipelineError
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource, endless, lockstep_states
from pipeline.generator.generate import GenerateConfig, generate
from pipeline.generator.model import (
    Generator,
    GeneratorConfig,
    create_generator,
    load_generator,
    next_token_losses,
    save_generator,
)
from pipeline.generator.sampling import SamplingConfig, no_class, prompts, sample
from pipeline.generator.trainer import GeneratorTrainer
from pipeline.generator.training_config import GeneratorTrainingConfig
from pipeline.sequences.vocabulary import NO_CLASS, SequenceVocabulary
from sweettok import SweetTok, Tokens
from sweettok.errors import ConfigError
from tests.token_samples import commit_all, unit_records, work_unit

WORDS = SequenceVocabulary(30, 20, 6, 8, 2, ("run", "sit"))
TINY = GeneratorConfig(width=32, head_dim=16, depth=2)


@pytest.fixture
def model() -> Generator:
    return create_generator(TINY, WORDS, seed=1).eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    for number in range(6):
        unit = work_unit(f"{number}.mp4", label=("cat", "dog")[number % 2])
        commit_all(root, unit_records(unit, 3))
    return root


def run_config(root: Path, **training: Any) -> TrainGeneratorConfig:
    values = {"num_steps": 6, "batch_size_per_worker": 4, "warmup_steps": 2} | training
    return TrainGeneratorConfig.from_mapping(
        {
            "data": {"dataset": {"uri": str(root)}, "class_column": "label"},
            "model": TINY.to_mapping(),
            "training": values,
            "run": {"storage_path": "unused", "output": "unused"},
        }
    )


def test_guidance_is_the_formula_and_samples_stay_legal(model: Generator) -> None:
    given = prompts(WORDS, torch.tensor([4, 5, NO_CLASS]))
    config = SamplingConfig(temperature=0, guidance=3.0)
    found = torch.cat(list(sample(model, WORDS, given, config)))
    legal = WORDS.legal_ids()
    ids = given
    with torch.no_grad():
        while ids.shape[1] < WORDS.length:
            without = ids.clone()
            without[:, 1] = NO_CLASS
            conditional, unconditional = (model(each).logits[:, -1] for each in (ids, without))
            logits = unconditional + 3.0 * (conditional - unconditional)
            first, last = legal[ids.shape[1]]
            chosen = logits[:, first:last].argmax(-1, keepdim=True) + first
            ids = torch.cat([ids, chosen], dim=1)
    assert torch.equal(found, ids)
    assert model.guidance == 1.0


@pytest.mark.parametrize(
    "config",
    [
        SamplingConfig(),
        SamplingConfig(static_cache=False, top_k=3),
        SamplingConfig(top_p=0.5, guidance=2.0, batch_size=2),
        SamplingConfig(temperature=0),
    ],
)
def test_all_samples_are_clips_and_a_seed_repeats_them(
    model: Generator, config: SamplingConfig
) -> None:
    given = prompts(WORDS, torch.tensor([4, 5, 4, NO_CLASS, 5]))

    def drawn(seed: int) -> Tensor:
        return torch.cat(list(sample(model, WORDS, given, config, seed=seed)))

    found = drawn(1)
    assert WORDS.is_legal(found).all()
    assert torch.equal(found[:, :2], given)
    assert torch.equal(drawn(1), found)
    if config.temperature:
        assert not torch.equal(drawn(2), found)


def test_frame_prediction_keeps_what_is_given(model: Generator) -> None:
    whole = torch.cat(list(sample(model, WORDS, prompts(WORDS, no_class(3)), SamplingConfig())))
    given = prompts(WORDS, torch.tensor([4, 4, 5]), whole, num_tubes=1)
    found = torch.cat(list(sample(model, WORDS, given, SamplingConfig(), seed=9)))
    length = WORDS.prefix_length(1)
    assert torch.equal(found[:, 2:length], whole[:, 2:length])
    assert found[:, 1].tolist() == [4, 4, 5]
    assert WORDS.is_legal(found).all()


def test_the_loss_counts_tokens_alone(model: Generator) -> None:
    sequences = torch.cat(list(sample(model, WORDS, prompts(WORDS, no_class(2)), SamplingConfig())))
    logits = torch.randn(2, WORDS.length - 1, WORDS.size)
    losses = next_token_losses(logits, sequences, WORDS)
    expected = [
        -torch.log_softmax(logits[row, place - 1], -1)[sequences[row, place]].item()
        for row in range(2)
        for place in range(2, WORDS.length - 1)
    ]
    assert losses["total"].item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    kinds = (6 * losses["spatial"] + 8 * losses["temporal"]) / 14
    assert losses["total"].item() == pytest.approx(kinds.item(), rel=1e-5)


def test_entropy_of_frequencies_is_that_of_the_formula(root: Path) -> None:
    source = TokenSource.open(run_config(root).data)
    rows = TokenDataset.open(root).rows().read_all()
    found = source.unigram_entropies()
    for kind in ("spatial", "temporal"):
        ids = [token for row in rows[f"{kind}_tokens"].to_pylist() for token in row]
        shares = [ids.count(token) / len(ids) for token in set(ids)]
        assert found[kind] == pytest.approx(-sum(p * math.log(p) for p in shares))


def run(config: TrainGeneratorConfig, root: Path, stop: int | None) -> dict[str, Tensor]:
    """The weights after all steps; with `stop`, from a state that was saved there and restored."""
    source = TokenSource.open(config.data)

    def begin() -> tuple[GeneratorTrainer, Any]:
        model = create_generator(config.model, source.vocabulary, seed=config.training.seed)
        trainer = GeneratorTrainer(model, source.vocabulary, config.training)
        return trainer, source.loader(config.training, config.data.order, 0, 1)

    trainer, loader = begin()
    batches = endless(loader)
    while not trainer.is_done:
        trainer.step(
            [source.sequences(each) for each in islice(batches, config.training.accumulation_steps)]
        )
        if trainer.num_steps == stop:
            tensors = {name: value.clone() for name, value in trainer.state_tensors().items()}
            place = loader.state_dict()
            trainer, loader = begin()
            trainer.load_state_tensors(tensors, stop)
            loader.load_state_dict(lockstep_states(place)[0])
            batches = endless(loader)
    kept = create_generator(config.model, source.vocabulary)
    trainer.copy_weights_to(kept)
    return dict(kept.state_dict())


@pytest.mark.parametrize("stop", [1, 4, 5])
def test_a_restored_run_ends_with_the_weights_of_an_undisturbed_one(root: Path, stop: int) -> None:
    values = run_config(
        root, accumulation_steps=2, ema={"decay": 0.9}, class_dropout=0.5
    ).to_mapping()
    values["model"]["attention_dropout"] = 0.3
    config = TrainGeneratorConfig.from_mapping(values)
    whole, resumed = run(config, root, None), run(config, root, stop)
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_learning_takes_the_loss_below_the_entropy_of_frequencies(root: Path) -> None:
    config = run_config(root, num_steps=60, optimizer={"learning_rate": 1e-2})
    source = TokenSource.open(config.data)
    model = create_generator(config.model, source.vocabulary)
    trainer = GeneratorTrainer(model, source.vocabulary, config.training)
    batches = endless(source.loader(config.training, config.data.order, 0, 1))
    for batch in islice(batches, 60):
        last = trainer.step([source.sequences(batch)])
    assert last.losses["total"].item() < source.unigram_entropies()["total"]


def test_bf16_passes_keep_weights_and_losses_in_float32() -> None:
    def stepped(precision: str) -> tuple[Tensor, Tensor]:
        config = GeneratorTrainingConfig.from_mapping({"num_steps": 1, "precision": precision})
        trainer = GeneratorTrainer(create_generator(TINY, WORDS, seed=1), WORDS, config)
        tokens = Tokens(torch.zeros(2, 6, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
        loss = trainer.step([WORDS.to_sequences(tokens)]).losses["total"]
        return loss, trainer.model.state_dict()["lm_head.weight"]

    (exact, _), (loss, weight) = stepped("fp32"), stepped("bf16")
    assert (loss.dtype, weight.dtype) == (torch.float32, torch.float32)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-2)
    assert loss.item() != exact.item()


def test_class_dropout_is_a_share_and_the_same_again() -> None:
    config = GeneratorTrainingConfig(num_steps=9, class_dropout=0.3)
    trainer = GeneratorTrainer(create_generator(TINY, WORDS), WORDS, config)
    sequences = torch.zeros(4000, WORDS.length, dtype=torch.long)
    sequences[:, 1] = 4
    found = trainer._without_some_classes(sequences, 0)
    assert (found[:, 1] == NO_CLASS).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(found, trainer._without_some_classes(sequences, 0))
    assert not torch.equal(found, trainer._without_some_classes(sequences, 1))


def test_a_saved_generator_is_the_same_and_strangers_are_refused(
    model: Generator, tmp_path: Path
) -> None:
    save_generator(model, WORDS, tmp_path / "generator")
    found, vocabulary = load_generator(tmp_path / "generator")
    assert vocabulary == WORDS
    sequences = torch.cat(list(sample(model, WORDS, prompts(WORDS, no_class(2)), SamplingConfig())))
    assert torch.equal(found(sequences).logits, model(sequences).logits)
    with pytest.raises(PipelineError, match="holds no generator"):
        load_generator(tmp_path)
    save_generator(model, SequenceVocabulary(31, 20, 6, 8, 2), tmp_path / "mixed")
    with pytest.raises(PipelineError, match="not of one generator"):
        load_generator(tmp_path / "mixed")


def test_too_few_clips_and_wrong_settings_are_one_clear_error(root: Path) -> None:
    config = run_config(root, batch_size_per_worker=32)
    with pytest.raises(
        PipelineError, match="18 clips are too few for 1 workers with batches of 32"
    ):
        TokenSource.open(config.data).loader(config.training, config.data.order, 0, 1)
    with pytest.raises(ConfigError, match="'adamw'"):
        run_config(root, optimizer={"kind": "muon"})


def test_generate_writes_videos_picture_and_a_dataset_that_decodes(
    tokenizer_directory: str, tmp_path: Path
) -> None:
    tokenizer = SweetTok.from_pretrained(tokenizer_directory)
    sizes = tokenizer.config
    vocabulary = SequenceVocabulary(
        sizes.num_spatial_words,
        sizes.num_temporal_words,
        sizes.num_spatial_tokens,
        sizes.num_temporal_tokens,
        sizes.geometry.num_tubes,
        ("run", "sit"),
    )
    save_generator(
        create_generator(TINY, vocabulary),
        vocabulary,
        tmp_path / "generator",
        tokenizer=Path(tokenizer_directory),
    )
    values = {
        "generator": str(tmp_path / "generator"),
        "num_samples": 3,
        "classes": ["run", "sit"],
        "output": str(tmp_path / "out"),
        "device": "cpu",
    }
    result = generate(GenerateConfig.from_mapping(values))
    assert result.num_samples == 3
    names = sorted(path.name for path in (tmp_path / "out" / "samples").iterdir())
    assert names == ["sample-00000-run.mp4", "sample-00001-sit.mp4", "sample-00002-run.mp4"]
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    generate(GenerateConfig.from_mapping(values))
    dataset = TokenDataset.open(tmp_path / "out" / "tokens")
    rows = dataset.rows(["class", "spatial_tokens"]).read_all()
    assert sorted(rows["class"].to_pylist()) == ["run", "run", "sit"]
    assert SweetTok.from_pretrained(dataset.tokenizer_files(tmp_path / "cache")).config == sizes
    continued = values | {
        "continuation": {"dataset": {"uri": str(tmp_path / "out" / "tokens")}, "num_tubes": 1},
        "classes": [],
        "output": str(tmp_path / "continued"),
    }
    generate(GenerateConfig.from_mapping(continued))
    given = {tuple(row) for row in rows["spatial_tokens"].to_pylist()}
    found = TokenDataset.open(tmp_path / "continued" / "tokens").rows(["spatial_tokens"])
    assert {tuple(row) for row in found.read_all()["spatial_tokens"].to_pylist()} == given
    with pytest.raises(PipelineError, match="no class 'fly'"):
        generate(GenerateConfig.from_mapping(values | {"classes": ["fly"]}))
