"""What is measured while a generator learns: held-out losses, drawn clips beside real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.dataset import TokenDataset
from pipeline.errors import DatasetError, PipelineError
from pipeline.evaluation.feature_networks import FeatureNetworkConfig
from pipeline.generator.comparison import ClipComparison, Clips, ComparisonConfig, FeatureDistance
from pipeline.generator.config import TrainGeneratorConfig
from pipeline.generator.data import TokenSource
from pipeline.generator.evaluation import GeneratorEvaluation
from pipeline.generator.model import Generator, create_generator, next_token_losses
from pipeline.generator.samples import frames_of
from pipeline.proof.evaluation import features_distance
from pipeline.proof.motion_network import (
    MotionNetwork,
    MotionNetworkConfig,
    load_motion_network,
    save_motion_network,
)
from pipeline.reconstruction import load_tokenizer_of, original_frames, stored_clips
from pipeline.sequences.vocabulary import NO_CLASS
from pipeline.storage import StorageConfig
from sweettok.patches import pixels_to_video
from tests.evaluated_tokenizers import save_small_i3d
from tests.in_process_run import tokenize_in_process
from tests.tiny_corpus import GOOD, make_corpus, tokenize_config

NUM_CLIPS = 9


class Recorder:
    """Keeps what it is called with; one number says how bright the real clips are."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, generated: Iterable[Clips], real: Iterable[Clips]) -> Mapping[str, float]:
        self.seen.append((torch.cat(list(generated)), torch.cat(list(real))))
        return {"brightness": float(self.seen[-1][1].float().mean())}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def root(corpus: Path, tokenizer_directory: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokens") / "tokens"
    tokenize_in_process(tokenize_config(corpus, tokenizer_directory, root), batch_size=4)
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained motion network with two features."""
    config = MotionNetworkConfig(width=8, num_features=2)
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("networks") / "motion_network.safetensors"
    save_motion_network(path, MotionNetwork(config), config, accuracy=0.0, recipe="untrained")
    return path


def run_config(root: Path, evaluation: dict[str, Any], **data: Any) -> TrainGeneratorConfig:
    return TrainGeneratorConfig.from_mapping(
        {
            "data": {"dataset": {"uri": str(root)}, "class_column": "clip_index"} | data,
            "model": {"width": 32, "head_dim": 16, "depth": 2},
            "training": {"num_steps": 1, "batch_size_per_worker": 2, "seed": 3},
            "evaluation": evaluation,
            "run": {"storage_path": "unused", "output": "unused"},
        }
    )


def begun(
    config: TrainGeneratorConfig, comparisons: list[ClipComparison]
) -> tuple[GeneratorEvaluation, TokenSource, Generator]:
    source = TokenSource.open(config.data)
    assert config.evaluation is not None
    evaluation = GeneratorEvaluation(
        config.evaluation,
        config.data,
        source,
        config.training,
        device=torch.device("cpu"),
        has_tokenizer=True,
        comparisons=comparisons,
    )
    return evaluation, source, create_generator(config.model, source.vocabulary, seed=1).eval()


def test_a_comparison_gets_drawn_clips_and_original_pixels(root: Path) -> None:
    recorder = Recorder()
    config = run_config(root, {"num_samples": 2, "comparison": {"num_clips": 7}})
    evaluation, source, model = begun(config, [recorder])
    look = evaluation.look(model)
    drawn, real = recorder.seen[0]

    dataset = TokenDataset.open(root)
    clip_ids, class_ids = source.held_out_clips(7)
    chosen = list(stored_clips(dataset, clip_ids=clip_ids))
    assert len(chosen) == 7
    expected = original_frames(dataset, chosen, StorageConfig())
    assert sorted(real.flatten(1).tolist()) == sorted(
        frames.ravel().tolist() for frames in expected.values()
    )
    names = [source.vocabulary.class_names[clip.clip_index] for clip in chosen]
    assert sorted(class_ids.tolist()) == sorted(map(source.vocabulary.class_id, names))
    assert look.comparison == {"brightness": pytest.approx(real.float().mean().item())}

    sequences = evaluation._drawn_by_all(model, class_ids)
    assert torch.equal(sequences[:, 1], class_ids)
    tokens, _ = source.vocabulary.to_tokens(sequences)
    assert torch.equal(drawn, torch.from_numpy(frames_of(tokens, load_tokenizer_of(dataset))))
    assert look.samples is not None
    assert look.samples.classes == ("0", "1")
    evaluation.look(model)
    assert torch.equal(recorder.seen[1][0], drawn), "every look draws with the same numbers"


def motion(path: Path) -> FeatureNetworkConfig:
    return FeatureNetworkConfig(kind="motion", path=str(path))


def test_an_i3d_gives_the_video_distance_of_the_field(tmp_path: Path) -> None:
    network = FeatureNetworkConfig(kind="i3d", path=str(save_small_i3d(tmp_path / "i3d.pt")))
    generator = torch.Generator().manual_seed(0)
    real, drawn = torch.randint(0, 256, (2, 12, 5, 16, 16, 3), generator=generator).byte()
    compare = FeatureDistance(network, 12)
    means = [
        torch.stack([c.float().mean((1, 2, 3, 4)), c[..., 0].float().mean((1, 2, 3))], 1) / 255
        for c in (real, drawn)
    ]
    expected = features_distance(*means)
    assert compare(drawn.split(5), real.split(4))["fvd"] == pytest.approx(expected, rel=1e-3)
    assert FeatureDistance(network, 12)(drawn.split(5), [real[:3]]) == {}
    assert FeatureDistance(network, 12)(drawn.split(5), []) == {}


def test_the_distance_on_the_motion_network_is_that_of_its_features(
    root: Path, network: Path
) -> None:
    recorder = Recorder()
    config = run_config(
        root,
        {
            "comparison": {
                "num_clips": NUM_CLIPS,
                "feature_networks": [{"kind": "motion", "path": str(network)}],
            }
        },
    )
    assert config.evaluation is not None
    assert config.evaluation.comparison is not None
    own = config.evaluation.comparison.own_comparisons()
    evaluation, _, model = begun(config, [*own, recorder])
    found = evaluation.look(model).comparison["motion_frechet"]
    eyes = load_motion_network(network).network
    with torch.no_grad():
        drawn, real = (eyes.features(pixels_to_video(part)) for part in recorder.seen[0])
    assert found == pytest.approx(features_distance(drawn, real), rel=1e-6)
    assert found > 1e-6
    again = FeatureDistance(motion(network), NUM_CLIPS)
    same = again([recorder.seen[0][1]], [recorder.seen[0][1]])
    assert same["motion_frechet"] == pytest.approx(0, abs=1e-9)


def test_without_their_videos_clips_are_left_out_and_no_distance_is_made_up(
    tokenizer_directory: str, network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = make_corpus(tmp_path / "videos")
    root = tmp_path / "tokens"
    tokenize_in_process(tokenize_config(corpus, tokenizer_directory, root), batch_size=4)
    for name in GOOD[1:]:
        (corpus / name).unlink()
    recorder = Recorder()
    config = run_config(root, {"num_samples": 0, "comparison": {"num_clips": NUM_CLIPS}})
    evaluation, _, model = begun(config, [FeatureDistance(motion(network), NUM_CLIPS), recorder])
    assert evaluation.look(model).comparison.keys() == {"brightness"}
    assert [len(part) for part in recorder.seen[0]] == [NUM_CLIPS, 3]
    assert caplog.text.count("no original to compare with") >= 2
    assert "too few real clips were found (FeatureStatistics(num_vectors=3" in caplog.text


def test_held_out_losses_are_means_over_all_clips_with_and_without_their_class(root: Path) -> None:
    config = run_config(root, {"max_clips": 5, "num_samples": 0})
    evaluation, source, model = begun(config, [])
    found = evaluation.look(model).losses
    (sequences,) = source.held_out_sequences(range(5), 5)
    without = sequences.clone()
    without[:, 1] = NO_CLASS
    with torch.no_grad():
        for suffix, given in (("", sequences), ("_without_class", without)):
            logits = model(given[:, :-1]).logits
            for name, value in next_token_losses(logits, given, source.vocabulary).items():
                assert found[name + suffix] == pytest.approx(value.item(), rel=1e-5)
    assert len(found) == 6
    assert found["total"] != found["total_without_class"]


def test_what_cannot_be_compared_is_said_before_the_run_begins(
    root: Path, network: Path, tmp_path: Path
) -> None:
    missing = ComparisonConfig(feature_networks=(motion(tmp_path / "none.safetensors"),))
    with pytest.raises(PipelineError, match=r"none\.safetensors: no such file; jobs/compare"):
        missing.own_comparisons()
    few = ComparisonConfig(num_clips=3, feature_networks=(motion(network),))
    with pytest.raises(PipelineError, match=r"num_clips is 3, too few for the 2 features .* set 4"):
        few.own_comparisons()
    filters = {
        "filters": [["clip_index", "<", 2]],
        "validation_filters": [["clip_index", "=", 2]],
    }
    with pytest.raises(DatasetError, match="held-out clips have the clip_index '2', which no"):
        TokenSource.open(run_config(root, {}, **filters).data).check_held_out_classes()
