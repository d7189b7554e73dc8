"""Tokenizers behind the one interface of an evaluation, and the parts that are kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.evaluation.parts import Part, PartStore
from pipeline.evaluation.tokenizers import EncodedClips, StillPicture, WordTokenizer
from sweettok import Lexicon, SweetTok
from sweettok.baselines import VARIANTS, build_variant
from tests.tiny_models import tiny_config


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_what_its_forward_pass_gives(variant: str, lexicon: Lexicon) -> None:
    torch.manual_seed(0)
    model = build_variant(variant, tiny_config(), lexicon).eval()
    with torch.no_grad():
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    video = torch.rand(2, 3, 9, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    tokenizer = WordTokenizer(model)
    encoded = tokenizer.encode(video)
    torch.testing.assert_close(tokenizer.decode(encoded), model(video).reconstruction)
    assert encoded.ids.keys() == tokenizer.codebook_sizes.keys()
    for name, ids in encoded.ids.items():
        assert ids.shape[0] == 2
        assert int(ids.max()) < tokenizer.codebook_sizes[name]
    assert encoded.bits.tolist() == pytest.approx([model.bits_per_clip()] * 2)


def test_clips_of_other_sizes_are_decoded_at_their_size(lively: SweetTok) -> None:
    tokenizer = WordTokenizer(lively)
    video = torch.rand(1, 3, 5, 48, 32) * 2 - 1
    encoded = tokenizer.encode(video)
    assert torch.equal(tokenizer.decode(encoded), lively(video).reconstruction)
    geometry = lively.config.geometry.of_size(num_frames=5, height_px=48, width_px=32)
    assert encoded.bits.item() == pytest.approx(lively.bits_per_clip(geometry))


def test_bits_are_those_of_even_codes() -> None:
    ids = {"a": torch.zeros(3, 7, dtype=torch.int64), "b": torch.zeros(3, 2, dtype=torch.int64)}
    encoded = EncodedClips.of_ids(ids, {"a": 8, "b": 1024})
    assert encoded.bits.tolist() == [7 * 3 + 2 * 10] * 3


def test_a_still_picture_has_no_bits() -> None:
    video = torch.rand(2, 3, 4, 8, 8)
    still = StillPicture()
    encoded = still.encode(video)
    assert encoded.bits.isnan().all()
    assert torch.equal(still.decode(encoded), video[:, :, :1].expand_as(video))


def part(*reasons: str) -> Part:
    left_out = [{"video": "v", "reason": reason, "message": ""} for reason in reasons]
    return Part({"psnr_db": torch.arange(3.0)}, ["a", "a", "b"], left_out, torch.ones(1, 2).byte())


def test_parts_are_found_again_under_their_identity_only(tmp_path: Path) -> None:
    PartStore(tmp_path, "A row", "one").write(4, part("truncated"))
    found = PartStore(tmp_path, "A row", "one").read(4)
    assert found is not None
    assert found.videos == ["a", "a", "b"]
    assert found.left_out == part("truncated").left_out
    assert torch.equal(found.measures["psnr_db"], torch.arange(3.0))
    assert found.shown is not None
    assert PartStore(tmp_path, "A row", "one").read(3) is None
    assert PartStore(tmp_path, "A row", "two").read(4) is None
    assert PartStore(tmp_path, "Another", "one").read(4) is None


def test_a_fault_that_may_pass_is_not_kept(tmp_path: Path) -> None:
    store = PartStore(tmp_path, "row", "one")
    store.write(0, part("truncated", "read_error"))
    assert store.read(0) is not None
    assert PartStore(tmp_path, "row", "one").read(0) is None


def test_joined_parts_end_at_the_limit() -> None:
    joined = Part.joined([part(), Part({}, [], [{"video": "x"}]), part("empty")], max_clips=4)
    assert joined.measures["psnr_db"].tolist() == [0, 1, 2, 0]
    assert joined.videos == ["a", "a", "b", "a"]
    assert [video["video"] for video in joined.left_out] == ["x", "v"]
