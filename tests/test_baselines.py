"""The baselines: bits and parameters as the method has, exact decoding, what each one reads."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from sweettok import Lexicon, SweetTok, Tokens
from sweettok.baselines import (
    VARIANTS,
    FlattenedQueryTokenizer,
    PatchTokenizer,
    PlainLanguageTokenizer,
    build_variant,
    codebook_choices,
)
from sweettok.baselines.flattened import cut_windows, join_windows, window_layout
from sweettok.baselines.space_time import interleaved
from sweettok.baselines.tokenizer import BaselineTokenizer
from sweettok.baselines.vocabularies import union_size, union_vocabulary
from sweettok.errors import CheckpointError, ConfigError, LexiconError, ShapeError
from sweettok.learned_codebook import LearnedCodebook
from sweettok.vocabulary import Vocabulary
from tests.tiny_models import random_lexicon, tiny_config

NUM_FRAMES, HEIGHT_PX, WIDTH_PX = 9, 32, 48
BASELINES = ("flattened", "flattened_global", "patch")


def videos(batch: int = 2, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 3, NUM_FRAMES, HEIGHT_PX, WIDTH_PX)
    return torch.rand(shape, generator=generator) * 2 - 1


def tiny_lexicon() -> Lexicon:
    return random_lexicon(num_spatial=96, num_temporal=64, word_dim=24)


@cache
def variant(name: str) -> SweetTok | BaselineTokenizer:
    """An untrained tokenizer of the tiny config, its pixel heads not at zero."""
    torch.manual_seed(0)
    lexicon = tiny_lexicon()
    model = build_variant(name, tiny_config(), lexicon)
    for head in (model.decoder.heads.first_frame, model.decoder.heads.tubes):
        torch.nn.init.normal_(head.weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "decoupled"])
@pytest.mark.parametrize("width", [128, 256])
def test_variants_have_the_parameters_of_the_method_within_five_percent(
    name: str, width: int
) -> None:
    config = tiny_config(
        geometry={"num_frames": 17, "height_px": 64, "width_px": 64},
        width=width,
        head_dim=32,
        encoder={"spatial_depth": width // 128, "temporal_depth": 1},
        decoder={"spatial_depth": 1, "temporal_depth": 1, "joint_depth": width // 128},
        quantizer={"code_dim": 32, "graph_hidden_dim": 128},
        num_spatial_words=1024,
        num_temporal_words=1024,
        word_dim=384,
    )
    lexicon = Lexicon.load("small")
    expected = build_variant("decoupled", config, lexicon).num_parameters
    found = build_variant(name, config, lexicon)
    assert found.num_parameters == pytest.approx(expected, rel=0.05)
    assert found.num_parameters == sum(p.numel() for p in found.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_spend_the_same_bits_on_a_clip(name: str) -> None:
    model, expected = variant(name), tiny_config().bits_per_clip
    tokens = model.encode(videos())
    choices = codebook_choices(model, tokens)
    bits = sum(
        len(ids) / len(tokens) * torch.tensor(float(num_codes)).log2().item()
        for ids, num_codes in choices.values()
    )
    assert bits == pytest.approx(expected, rel=0.005)
    assert model.config.bits_per_clip == pytest.approx(bits)
    for ids, num_codes in choices.values():
        assert 0 <= int(ids.min()) <= int(ids.max()) < num_codes


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("num_frames", [1, NUM_FRAMES])
def test_decoding_stored_tokens_equals_the_forward_pass(name: str, num_frames: int) -> None:
    model, video = variant(name), videos()[:, :, :num_frames]
    with torch.no_grad():
        output = model(video)
    tokens = model.encode(video)
    assert output.reconstruction.shape == video.shape
    assert tokens.equal(output.tokens)
    assert torch.equal(model.decode(tokens), output.reconstruction)
    num_temporal = 0 if num_frames == 1 else model.config.num_temporal_tokens
    assert tokens.spatial.shape == (2, model.config.num_spatial_tokens)
    assert tokens.temporal.shape == (2, num_temporal)


@pytest.mark.parametrize("name", BASELINES)
def test_clips_of_a_batch_do_not_see_each_other(name: str) -> None:
    model, video = variant(name), videos(3)
    with torch.no_grad():
        together, alone = model(video).reconstruction[1:2], model(video[1:2]).reconstruction
    assert torch.allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(0)
    lexicon = tiny_lexicon()
    model = build_variant(name, tiny_config(), lexicon).train()
    for head in (model.decoder.heads.first_frame, model.decoder.heads.tubes):
        torch.nn.init.normal_(head.weight, std=0.1)
    output = model(videos())
    (output.reconstruction.square().mean() + output.quantizer_loss).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    assert any(name.endswith("commitment") for name in output.quantizer_terms)


@pytest.mark.parametrize("name", BASELINES)
def test_an_optimiser_step_changes_what_inference_uses(name: str) -> None:
    torch.manual_seed(0)
    lexicon = tiny_lexicon()
    model = build_variant(name, tiny_config(), lexicon).eval()
    ids = torch.arange(20).unsqueeze(0)
    before = [q.lookup(ids).clone() for q in model.quantizers()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.refresh_codes()
    after = [q.lookup(ids) for q in model.quantizers()]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def depends_on(model: BaselineTokenizer, *, frames: slice, columns: slice) -> torch.Tensor:
    """Which latents (spatial, then temporal) change with some pixels of one clip."""
    video = videos(1)
    other = video.clone()
    other[:, :, frames, :, columns] *= -1
    with torch.no_grad():
        pairs = zip(model.encoder(video), model.encoder(other), strict=True)
        return torch.cat([(a - b).abs().amax(-1)[0] > 1e-6 for a, b in pairs])


def test_flattened_queries_read_all_of_space_and_time_of_their_window() -> None:
    last_tube = slice(NUM_FRAMES - 4, NUM_FRAMES)
    in_windows, globally = variant("flattened"), variant("flattened_global")
    layout = window_layout(tiny_config())
    assert layout.grid == (2, 3)
    assert window_layout(tiny_config(), is_global=True).grid == (1, 1)
    # All queries, the first ones too, see the last frames.
    for model in (in_windows, globally):
        assert bool(depends_on(model, frames=last_tube, columns=slice(None)).all())
    # Blocks of attention within frames carry everything everywhere; without them, windows show.
    torch.manual_seed(0)
    blind = FlattenedQueryTokenizer(tiny_config(), tiny_lexicon()).eval()
    for block, axis in zip(blind.encoder.blocks, blind.encoder.axes, strict=True):
        if axis == "space":
            torch.nn.init.zeros_(block.attention.to_output.weight)
    seen = depends_on(blind, frames=slice(None), columns=slice(0, 16))
    spatial, temporal = seen.split([24, 12])
    assert spatial.view(2, 3, 4).any(-1).tolist() == [[True, False, False]] * 2
    assert temporal.view(2, 3, 2).all(-1).tolist() == [[True, False, False]] * 2


def test_windows_are_cut_and_joined_exactly() -> None:
    layout = window_layout(tiny_config())
    latents = torch.arange(2 * 3 * 4 * 6 * 5.0).view(2, 3, 4, 6, 5)
    cut = cut_windows(latents, layout)
    assert cut.shape == (2 * 6, 3, 4, 5)
    assert torch.equal(cut[1, 0], latents[0, 0, :2, 2:4].reshape(4, 5))
    assert torch.equal(join_windows(cut, layout, 3), latents)


def test_a_global_kind_of_query_makes_the_flattened_layout_global() -> None:
    config = tiny_config(spatial_queries={"cells_per_query": 1, "window_queries": None})
    assert window_layout(config).grid == (1, 1)
    assert window_layout(config).num_slots == config.num_tokens


def test_patch_tokens_of_the_first_frame_see_no_later_frame() -> None:
    model = variant("patch")
    assert isinstance(model, PatchTokenizer)
    seen = depends_on(model, frames=slice(1, None), columns=slice(None))
    spatial, temporal = seen.split([24, 12])
    assert not bool(spatial.any())
    assert bool(temporal.all())


def test_blocks_over_time_are_spread_among_those_in_space() -> None:
    assert interleaved(2, 2) == ("space", "time", "space", "time")
    axes = interleaved(16, 8)
    assert (axes.count("space"), axes.count("time")) == (16, 8)
    assert max(len(run) for run in "".join(axis[0] for axis in axes).split("t")) == 2
    assert axes[-1] == "time"


def test_union_vocabulary_holds_all_parts_of_speech_each_word_once() -> None:
    lexicon = Lexicon.load("small")
    union = union_vocabulary(lexicon, 1024)
    assert union.num_words == len(set(union.words)) == 1024
    assert set(union.parts_of_speech) == {"noun", "adjective", "verb", "adverb"}
    spatial = lexicon.spatial.subset(512)
    assert union.words[:512] == spatial.words
    edges_within = {(union.words[i], union.words[j]) for i, j in union.edges.T.tolist()}
    expected = {(spatial.words[i], spatial.words[j]) for i, j in spatial.edges.T.tolist()}
    assert expected < edges_within
    for first, second in union.edges.T.tolist():
        assert (first < 512) == (second < 512)
    word = union.words[700]
    index = lexicon.temporal.words.index(word)
    assert torch.equal(union.embeddings[700], lexicon.temporal.embeddings[index])


def test_union_of_unequal_sizes_is_their_geometric_mean() -> None:
    assert union_size(tiny_config()) == round(2 ** (tiny_config().bits_per_clip / 36))
    equal = tiny_config(num_temporal_words=96)
    assert union_size(equal) == 96


def test_plain_language_names_all_tokens_by_nouns_and_adjectives() -> None:
    model = variant("plain_language")
    assert isinstance(model, SweetTok)
    words = model.words(model.encode(videos(1)))[0]
    assert {word.part_of_speech for word in words.temporal} <= {"noun", "adjective"}
    assert all(word.word.startswith("noun") for word in words.temporal)
    for quantizer in (model.spatial_quantizer, model.temporal_quantizer):
        assert quantizer.codebook.edge_index.shape[1] == quantizer.codebook.num_words
    weights = (model.spatial_quantizer, model.temporal_quantizer)
    assert not torch.equal(*(q.codebook.direct.weight for q in weights))


def test_a_saved_plain_language_tokenizer_loads_as_such_only(tmp_path: Path) -> None:
    model = variant("plain_language")
    model.save_pretrained(tmp_path)
    loaded = PlainLanguageTokenizer.from_pretrained(tmp_path)
    tokens = model.encode(videos(1))
    assert loaded.words(tokens) == model.words(tokens)
    with pytest.raises(CheckpointError, match="PlainLanguageTokenizer, not a SweetTok"):
        SweetTok.from_pretrained(tmp_path)


def test_plain_language_needs_enough_nouns_and_adjectives() -> None:
    lexicon = random_lexicon(num_spatial=32, num_temporal=64, word_dim=24)
    config = tiny_config(num_spatial_words=32)
    with pytest.raises(LexiconError, match=r"64 nouns and adjectives.*has 32"):
        build_variant("plain_language", config, lexicon)


def test_codebook_variants_differ_in_the_codebook_only() -> None:
    without = variant("words_without_graph")
    assert without.config.quantizer.codebook == "words_without_graph"
    assert variant("decoupled").config == tiny_config()
    assert isinstance(variant("learned_codebook").spatial_quantizer.codebook, LearnedCodebook)
    for name in ("words_without_graph", "learned_codebook"):
        changed = variant(name).config.to_mapping()
        changed["quantizer"]["codebook"] = "words"
        assert changed == tiny_config().to_mapping()


def test_a_larger_lexicon_gives_its_most_frequent_words() -> None:
    lexicon = random_lexicon(num_spatial=200, num_temporal=200, word_dim=24)
    model = build_variant("patch", tiny_config(), lexicon)
    assert model.spatial_quantizer.codebook.words == lexicon.spatial.subset(96).words


def test_an_unknown_variant_is_refused_by_name(lexicon: Lexicon) -> None:
    with pytest.raises(ConfigError, match="'flat': must be one of decoupled, flattened"):
        build_variant("flat", tiny_config(), lexicon)


@pytest.mark.parametrize("name", BASELINES)
def test_wrong_shapes_and_ids_are_refused(name: str) -> None:
    model = variant(name)
    with pytest.raises(ShapeError, match="configured geometry only"):
        model(torch.zeros(1, 3, 5, HEIGHT_PX, WIDTH_PX))
    with pytest.raises(ShapeError, match="floating point"):
        model(torch.zeros(1, 3, 9, HEIGHT_PX, WIDTH_PX, dtype=torch.uint8))
    tokens = model.encode(videos(1))
    with pytest.raises(ShapeError, match="24 spatial and 12 temporal"):
        model.decode(Tokens(tokens.spatial[:, 1:], tokens.temporal))
    with pytest.raises(ShapeError, match="another tokenizer"):
        model.decode(Tokens(tokens.spatial, tokens.temporal + 1000))


def test_union_keeps_word_counts_of_both_halves() -> None:
    def vocabulary(first: str, second: str) -> Vocabulary:
        return Vocabulary(
            words=(f"{first}0", f"{first}1", f"{second}0", f"{second}1"),
            parts_of_speech=(first, first, second, second),
            embeddings=torch.randn(4, 6),
            edges=torch.tensor([[0, 1], [2, 3]]),
            edge_counts=torch.tensor([5, 2]),
            word_counts=(9, 4, 8, 3),
        )

    lexicon = Lexicon(
        "counted", vocabulary("noun", "adjective"), vocabulary("verb", "adverb"), "random"
    )
    union = union_vocabulary(lexicon, 4)
    assert union.words == ("noun0", "adjective0", "verb0", "adverb0")
    assert union.word_counts == (9, 8, 9, 8)
    assert union.edges.tolist() == [[0, 2], [1, 3]]
    assert union.edge_counts.tolist() == [5, 5]
