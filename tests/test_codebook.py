"""Codebooks against slow, obvious NumPy restatements of the paper."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sweettok import SweetTok, SweetTokConfig
from sweettok.codebook import WordCodebook, normalised_adjacency
from sweettok.config import QuantizerConfig
from sweettok.errors import ConfigError, LexiconError
from sweettok.learned_codebook import LATENTS_PER_CODE, RESTART_EVERY_STEPS, LearnedCodebook
from sweettok.lexicon import Lexicon
from sweettok.quantizer import WordQuantizer
from tests.tiny_models import tiny_config


def numpy_codes(codebook: WordCodebook, adjacency: np.ndarray) -> np.ndarray:
    def linear(layer: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
        bias = 0 if layer.bias is None else layer.bias.detach().numpy()
        return x @ layer.weight.detach().numpy().T + bias

    words = codebook.word_embeddings.numpy()
    hidden = adjacency @ linear(codebook.first_layer, words)
    gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    codes = adjacency @ linear(codebook.second_layer, gelu) + linear(codebook.direct, words)
    return codes / np.linalg.norm(codes, axis=1, keepdims=True)


def test_codes_are_a_two_layer_graph_convolution_of_the_word_embeddings(lexicon: Lexicon) -> None:
    vocabulary = lexicon.spatial
    codebook = WordCodebook(vocabulary, code_dim=8, hidden_dim=16).double()
    adjacency = np.eye(vocabulary.num_words)
    for first, second in vocabulary.edges.T.tolist():
        adjacency[first, second] = adjacency[second, first] = 1
    scale = np.diag(adjacency.sum(1) ** -0.5)
    expected = numpy_codes(codebook, scale @ adjacency @ scale)
    np.testing.assert_allclose(codebook.project().detach().numpy(), expected, atol=1e-6)


def test_without_graph_each_word_is_projected_by_itself(lexicon: Lexicon) -> None:
    vocabulary = lexicon.spatial
    codebook = WordCodebook(vocabulary, code_dim=8, hidden_dim=16, use_graph=False).double()
    expected = numpy_codes(codebook, np.eye(vocabulary.num_words))
    np.testing.assert_allclose(codebook.project().detach().numpy(), expected, atol=1e-6)
    with_graph = WordCodebook(vocabulary, code_dim=8, hidden_dim=16)
    shapes = {name: parameter.shape for name, parameter in codebook.named_parameters()}
    assert shapes == {name: parameter.shape for name, parameter in with_graph.named_parameters()}


def test_adjacency_rows_of_a_path_graph() -> None:
    index, weight = normalised_adjacency(torch.tensor([[0, 1], [1, 2]]), 3)
    dense = torch.zeros(3, 3).index_put_((index[1], index[0]), weight)
    third, sixth = 1 / 3, 1 / math.sqrt(6)
    expected = [[0.5, sixth, 0], [sixth, third, sixth], [0, sixth, 0.5]]
    assert torch.allclose(dense, torch.tensor(expected))
    with pytest.raises(LexiconError, match="word 3"):
        normalised_adjacency(torch.tensor([[0], [3]]), 3)


@pytest.mark.parametrize("kind", ["words", "words_without_graph", "learned"])
def test_inference_uses_stored_codes_until_the_parameters_change(
    lexicon: Lexicon, kind: str
) -> None:
    config = QuantizerConfig.from_mapping({"code_dim": 8, "codebook": kind})
    quantizer = WordQuantizer(lexicon.spatial, config).eval()
    ids = torch.tensor([[0, 5]])
    before = quantizer.lookup(ids).clone()
    stored = quantizer.codebook.codes.data_ptr()
    assert torch.equal(quantizer.lookup(ids), before)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.mul_(-1)
    after = quantizer.lookup(ids)
    assert not torch.equal(after, before)
    assert torch.equal(after, quantizer.codebook.project()[ids])
    assert quantizer.codebook.codes.data_ptr() == stored


def test_codes_are_float32_under_autocast(lexicon: Lexicon) -> None:
    codebook = WordCodebook(lexicon.spatial, code_dim=8, hidden_dim=16)
    expected = codebook.project()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebook.project(), expected)


def test_an_unknown_kind_of_codebook_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codebook: .*'words_without_graph'"):
        QuantizerConfig.from_mapping({"codebook": "free"})


def clusters(num_clusters: int, per_cluster: int, *, seed: int = 0) -> torch.Tensor:
    """Unit latents in tight clusters, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(num_clusters, 1, 16, generator=generator)
    latents = centres + 0.02 * torch.randn(num_clusters, per_cluster, 16, generator=generator)
    order = torch.randperm(num_clusters * per_cluster, generator=generator)
    return F.normalize(latents, dim=-1).flatten(0, 1)[order]


def test_learned_codes_start_at_the_centres_of_the_first_latents() -> None:
    torch.manual_seed(1)
    latents = clusters(num_clusters=6, per_cluster=50)
    codebook = LearnedCodebook(24, code_dim=16).train()
    assert (latents @ codebook.project().T).amax(-1).min() < 0.9
    codebook.adapt(latents)
    assert (latents @ codebook.project().T).amax(-1).min() > 0.99
    assert torch.allclose(codebook.vectors.norm(dim=-1), torch.ones(24), atol=1e-5)


def test_learned_codes_outnumbering_the_first_latents_are_all_different() -> None:
    codebook = LearnedCodebook(40, code_dim=16).train()
    codebook.adapt(clusters(num_clusters=2, per_cluster=3))
    assert torch.unique(codebook.vectors, dim=0).shape[0] == 40
    assert bool(torch.isfinite(codebook.vectors).all())


def test_a_codebook_larger_than_the_batches_starts_anew_when_enough_latents_are_collected() -> None:
    batches = clusters(num_clusters=30, per_cluster=10).split(20)
    codebook = LearnedCodebook(60, code_dim=16).train()
    enough = LATENTS_PER_CODE * 60 // 20
    codebook.adapt(batches[0])
    copies = codebook.vectors.detach().clone()
    assert (copies @ batches[0].T).amax(-1).min() > 0.99
    for batch in batches[1 : enough - 1]:
        codebook.adapt(batch)
    assert torch.equal(codebook.vectors, copies)
    every_cluster = torch.cat(batches)
    assert (every_cluster @ copies.T).amax(-1).min() < 0.9
    codebook.adapt(batches[enough - 1])
    assert (every_cluster @ codebook.project().T).amax(-1).min() > 0.99
    centres = codebook.vectors.detach().clone()
    codebook.adapt(batches[-1])
    assert torch.equal(codebook.vectors, centres)


def test_learned_codes_start_from_the_finite_latents() -> None:
    latents = clusters(num_clusters=6, per_cluster=50)
    broken = latents.clone()
    broken[::2] = math.nan
    codebook = LearnedCodebook(24, code_dim=16).train()
    codebook.adapt(broken)
    assert (latents @ codebook.project().T).amax(-1).min() > 0.99
    untouched = LearnedCodebook(24, code_dim=16).train()
    before = untouched.vectors.detach().clone()
    untouched.adapt(torch.full_like(latents, math.nan))
    assert torch.equal(untouched.vectors, before)


def test_learned_codes_that_nothing_chose_restart_at_latents_and_others_stay() -> None:
    torch.manual_seed(0)
    codebook = LearnedCodebook(8, code_dim=16).train()
    codebook.adapt(clusters(num_clusters=8, per_cluster=20))
    before = codebook.vectors.detach().clone()
    for _ in range(RESTART_EVERY_STEPS - 1):
        codebook.record_use(torch.tensor([0, 1, 2, -1]))
        codebook.adapt(clusters(num_clusters=8, per_cluster=2))
        assert torch.equal(codebook.vectors, before)
    codebook.record_use(torch.tensor([3]))
    moved = clusters(num_clusters=5, per_cluster=20, seed=1)
    codebook.adapt(moved)
    assert torch.equal(codebook.vectors[:4], before[:4])
    assert (moved @ codebook.vectors[4:].T).amax(0).min() > 0.9999
    assert int(codebook.use_counts.sum()) == 0


def test_images_without_temporal_latents_do_not_use_up_the_start_of_learned_codes() -> None:
    codebook = LearnedCodebook(6, code_dim=16).train()
    before = codebook.vectors.detach().clone()
    codebook.adapt(torch.zeros(0, 16))
    assert torch.equal(codebook.vectors, before)
    codebook.adapt(clusters(num_clusters=6, per_cluster=5))
    assert not torch.equal(codebook.vectors, before)


@pytest.mark.parametrize("interrupted_at", [2, 30])  # while latents are collected; afterwards
def test_a_resumed_learned_codebook_goes_on_as_if_nothing_had_happened(
    interrupted_at: int,
) -> None:
    def steps(codebook: LearnedCodebook, first: int, last: int) -> None:
        for step in range(first, last):
            latents = clusters(num_clusters=9, per_cluster=4, seed=step)
            codebook.adapt(latents)
            codebook.record_use((latents @ codebook.project().T).argmax(-1))

    torch.manual_seed(0)
    undisturbed = LearnedCodebook(32, code_dim=16).train()
    steps(undisturbed, 0, interrupted_at)
    resumed = LearnedCodebook(32, code_dim=16).train()
    resumed.load_state_dict(undisturbed.state_dict())
    for codebook in (undisturbed, resumed):
        torch.rand(1)  # global random state differs between the two
        steps(codebook, interrupted_at, RESTART_EVERY_STEPS + 2)
    assert torch.equal(undisturbed.vectors, resumed.vectors)


def _train_as_one_of_two(rank: int, directory: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{directory}/group", rank=rank, world_size=2
    )
    torch.manual_seed(rank)
    codebook = LearnedCodebook(12, code_dim=16).train()
    for step in range(RESTART_EVERY_STEPS + 1):
        codebook.adapt(clusters(num_clusters=4, per_cluster=5, seed=2 * step + rank))
        codebook.record_use(torch.tensor([rank]))
    torch.save(codebook.state_dict(), f"{directory}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_workers_agree_on_learned_codes_and_restart_only_what_none_of_them_chose(
    tmp_path: Path,
) -> None:
    torch.multiprocessing.spawn(_train_as_one_of_two, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert torch.equal(first["vectors"], second["vectors"])
    start = LearnedCodebook(12, code_dim=16)
    for step in range(LATENTS_PER_CODE):
        start.adapt(clusters(num_clusters=4, per_cluster=5, seed=2 * step))
    kept = (first["vectors"] == start.vectors).all(dim=-1)
    assert kept.tolist() == [True, True] + [False] * 10


@pytest.mark.parametrize("kind", ["words_without_graph", "learned"])
def test_a_saved_tokenizer_keeps_its_kind_of_codebook(
    tmp_path: Path, lexicon: Lexicon, kind: str
) -> None:
    torch.manual_seed(0)
    values = tiny_config().to_mapping()
    values["quantizer"]["codebook"] = kind
    config = SweetTokConfig.from_mapping(values)
    model = SweetTok(config, lexicon).eval()
    video = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    model.save_pretrained(tmp_path)
    loaded = SweetTok.from_pretrained(tmp_path)
    assert loaded.config.quantizer.codebook == kind
    assert loaded.encode(video).equal(model.encode(video))
    part_of_speech = loaded.words(loaded.encode(video))[0].spatial[0].part_of_speech
    assert (part_of_speech == "learned") == (kind == "learned")
