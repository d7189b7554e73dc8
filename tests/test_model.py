"""The tokenizer as a whole: shapes, exactness of stored ids, image mode, words, errors."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sweettok import Lexicon, SweetTok, SweetTokConfig, Tokens, pixels_to_video, video_to_pixels
from sweettok.errors import ConfigError, LexiconError, ShapeError
from tests.tiny_models import random_lexicon, tiny_config

CONFIGS = Path(__file__).parents[1] / "configs"


def random_video(
    config: SweetTokConfig, batch: int, *, num_frames: int | None = None
) -> torch.Tensor:
    geometry = config.geometry
    frames = num_frames or geometry.num_frames
    return torch.rand(batch, 3, frames, geometry.height_px, geometry.width_px) * 2 - 1


@given(
    num_tubes=st.integers(0, 3),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    patch=st.sampled_from([4, 8]),
    tube_frames=st.sampled_from([2, 4]),
    cells=st.sampled_from([1, 2]),
    window=st.sampled_from([None, 1]),
    batch=st.integers(1, 3),
    source=st.sampled_from(["first", "mean"]),
)
@settings(max_examples=25, deadline=None)
def test_decoding_stored_ids_equals_the_forward_pass_for_any_geometry(
    lexicon: Lexicon,
    num_tubes: int,
    rows: int,
    columns: int,
    patch: int,
    tube_frames: int,
    cells: int,
    window: int | None,
    batch: int,
    source: str,
) -> None:
    config = tiny_config(
        geometry={
            "num_frames": 1 + num_tubes * tube_frames,
            "height_px": rows * patch * cells,
            "width_px": columns * patch * cells,
            "patch_px": patch,
            "tube_frames": tube_frames,
        },
        spatial_queries={"cells_per_query": cells, "window_queries": window},
        temporal_queries={"cells_per_query": cells, "window_queries": window},
        encoder={"spatial_depth": 1, "temporal_depth": 1, "spatial_source": source},
    )
    model = SweetTok(config, lexicon).eval()
    with torch.no_grad():  # an untrained head is grey whatever the tokens are
        for head in (model.decoder.heads.first_frame, model.decoder.heads.tubes):
            head.weight.normal_(std=0.1)
    video = random_video(config, batch)
    tokens = model.encode(video)
    with torch.no_grad():
        output = model(video)
    assert tokens.equal(output.tokens)
    assert tokens.spatial.shape == (batch, rows * columns)
    assert tokens.temporal.shape == (batch, num_tubes * rows * columns)
    assert output.reconstruction.shape == video.shape
    stored = Tokens(tokens.spatial.to(torch.int16).long(), tokens.temporal.to(torch.int16).long())
    assert torch.equal(model.decode(stored), output.reconstruction)
    if batch > 1 and tokens.temporal.numel():
        assert not torch.equal(output.reconstruction[0], output.reconstruction[1])


def test_training_forward_decodes_exactly_the_codes_of_its_ids(model: SweetTok) -> None:
    model.train()
    output = model(random_video(model.config, 2))
    codes = model.spatial_quantizer.codebook.project()[output.tokens.spatial]
    temporal = model.temporal_quantizer.codebook.project()[output.tokens.temporal]
    assert torch.equal(model.decoder(codes, temporal), output.reconstruction)


def test_every_parameter_learns(model: SweetTok) -> None:
    model.train()
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    video = random_video(model.config, 2)
    output = model(video)
    (output.reconstruction.sub(video).square().mean() + output.quantizer_loss).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    assert without == []


def test_tokens_do_not_depend_on_the_batch(model: SweetTok) -> None:
    video = random_video(model.config, 7)
    together = model.encode(video)
    one_by_one = [model.encode(clip.unsqueeze(0)) for clip in video]
    assert torch.equal(together.spatial, torch.cat([tokens.spatial for tokens in one_by_one]))
    assert torch.equal(together.temporal, torch.cat([tokens.temporal for tokens in one_by_one]))


@pytest.mark.parametrize("source", ["first", "mean"])
def test_spatial_tokens_come_from_the_frames_they_should_and_temporal_ones_from_motion(
    lexicon: Lexicon, source: str
) -> None:
    model = model_reading(source, lexicon)
    video = random_video(model.config, 1)
    moved = video.clone()
    moved[:, :, 1:] = moved[:, :, 1:].flip(-1)
    before, after = model.encode(video), model.encode(moved)
    assert torch.equal(before.spatial, after.spatial) == (source == "first")
    assert not torch.equal(before.temporal, after.temporal)


def test_temporal_tokens_are_causal(model: SweetTok) -> None:
    video = random_video(model.config, 1)
    changed = video.clone()
    changed[:, :, 5:] = -changed[:, :, 5:]
    before, after = model.encode(video).temporal, model.encode(changed).temporal
    per_tube = model.config.num_temporal_tokens // model.config.geometry.num_tubes
    assert torch.equal(before[:, :per_tube], after[:, :per_tube])


def test_image_mode_gives_the_spatial_tokens_of_a_first_frame(lexicon: Lexicon) -> None:
    first, mean = model_reading("first", lexicon), model_reading("mean", lexicon)
    video = random_video(first.config, 2)
    image = first.encode(video[:, :, :1])
    assert image.temporal.shape == (2, 0)
    assert torch.equal(image.spatial, first.encode(video).spatial)
    assert torch.equal(image.spatial, mean.encode(video[:, :, :1]).spatial)
    assert first.decode(image).shape == (2, 3, 1, 32, 48)


def model_reading(source: str, lexicon: Lexicon) -> SweetTok:
    """The usual small tokenizer, its spatial queries reading the first frame or the mean of all."""
    encoder = tiny_config().encoder.to_mapping() | {"spatial_source": source}
    torch.manual_seed(0)
    return SweetTok(tiny_config(encoder=encoder), lexicon).eval()


def test_words_count_the_tokens_of_each_clip(model: SweetTok) -> None:
    spatial = torch.zeros(1, model.config.num_spatial_tokens, dtype=torch.int64)
    spatial[0, :5] = 50
    temporal = torch.full((1, model.config.num_temporal_tokens), 63)
    (words,) = model.words(Tokens(spatial, temporal))
    assert [(word.word, word.part_of_speech, word.count) for word in words.spatial] == [
        ("noun0", "noun", model.config.num_spatial_tokens - 5),
        ("noun50", "adjective", 5),
    ]
    assert [(word.part_of_speech, word.count) for word in words.temporal] == [
        ("adverb", model.config.num_temporal_tokens)
    ]


def test_stored_pixels_are_refused_with_the_remedy(model: SweetTok) -> None:
    with pytest.raises(ShapeError, match=r"floating point.*pixels_to_video"):
        model.encode(torch.zeros(1, 3, 9, 32, 48, dtype=torch.uint8))


def test_foreign_tokens_are_refused(model: SweetTok) -> None:
    tokens = model.encode(random_video(model.config, 1))
    with pytest.raises(ShapeError, match=r"\[0, 96\), got .* to 96"):
        model.decode(Tokens(torch.full_like(tokens.spatial, 96), tokens.temporal))
    with pytest.raises(ShapeError, match="24 spatial and 12 temporal"):
        model.decode(Tokens(tokens.spatial[:, 1:], tokens.temporal))
    with pytest.raises(ShapeError, match="int64"):
        Tokens(tokens.spatial.to(torch.int16), tokens.temporal)


def test_a_lexicon_of_another_size_is_refused(lexicon: Lexicon) -> None:
    with pytest.raises(LexiconError, match="num_spatial_words is 90"):
        SweetTok(tiny_config(num_spatial_words=90), lexicon)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"geometry": {"num_frames": 16}}, "use 13 or 17"),
        ({"geometry": {"width_px": 100}}, "width_px must be a multiple of patch_px=8"),
        ({"head_dim": 24}, "multiple of head_dim"),
        ({"spatial_queries": {"cells_per_query": 3}}, "must divide the latent grid's 4 rows"),
        ({"temporal_queries": {"window_queries": 5}}, "must divide the query grid"),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_config(**changes)


def test_base_preset_has_the_paper_s_geometry() -> None:
    values = yaml.safe_load((CONFIGS / "train_base.yaml").read_text())["model"]
    config = SweetTokConfig.from_mapping(values)
    assert (config.num_spatial_tokens, config.num_temporal_tokens) == (256, 1024)
    assert (config.geometry.num_latent_frames, config.geometry.grid_height) == (5, 32)
    assert math.floor(config.bits_per_clip) == 17_184
    lexicon = random_lexicon(
        num_spatial=config.num_spatial_words,
        num_temporal=config.num_temporal_words,
        word_dim=config.word_dim,
    )
    model = SweetTok(config, lexicon).eval()
    image = torch.rand(1, 3, 1, 256, 256) * 2 - 1
    tokens = model.encode(image)
    assert tokens.spatial.shape == (1, 256)
    assert model.decode(tokens).shape == image.shape
    assert model.decode(Tokens(tokens.spatial, torch.randint(0, 11_139, (1, 1024)))).shape == (
        1,
        3,
        17,
        256,
        256,
    )


def test_pixels_survive_the_way_into_the_model_s_range_and_back() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3)
    video = pixels_to_video(pixels)
    assert video.shape == (1, 3, 1, 16, 16)
    assert video.min() == -1
    assert video.max() == 1
    assert torch.equal(video_to_pixels(video), pixels)
