"""The evaluation on held-out clips, against the plain means over all of them."""

from __future__ import annotations

import pytest
import torch

from pipeline.training.evaluation import evaluate, reconstruction_pictures
from sweettok import SweetTok, pixels_to_video
from sweettok.image_quality import ssim
from sweettok.metrics import codebook_usage, psnr_db

CPU = torch.device("cpu")


@pytest.fixture
def clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (5, 9, 32, 48, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture
def model(model: SweetTok) -> SweetTok:
    """With heads that paint something: untrained ones give mid-grey for every clip."""
    torch.nn.init.normal_(model.decoder.heads.first_frame.weight, std=0.3)
    torch.nn.init.normal_(model.decoder.heads.tubes.weight, std=0.3)
    return model


def test_every_clip_counts_alike_however_they_are_batched(
    model: SweetTok, clips: torch.Tensor
) -> None:
    result = evaluate(model, clips.split([3, 2]), device=CPU, with_images=True)
    video = pixels_to_video(clips)
    with torch.no_grad():
        output = model(video)
        images = model(video[:, :, :1]).reconstruction.clamp(-1, 1)
    shown = output.reconstruction.clamp(-1, 1)
    assert result.num_clips == 5
    assert result.psnr_db == pytest.approx(psnr_db(video, shown, 2.0).mean().item(), abs=1e-4)
    assert result.ssim == pytest.approx(ssim(video, shown, 2.0).mean().item(), abs=1e-5)
    expected = psnr_db(video[:, :, :1], images, 2.0).mean().item()
    assert result.image_psnr_db == pytest.approx(expected, abs=1e-4)
    assert result.image_psnr_db != pytest.approx(result.psnr_db, abs=1e-3)
    used = codebook_usage(output.tokens.temporal, model.config.num_temporal_words)
    assert result.temporal.counts.tolist() == used.counts.tolist()
    assert result.score("image_psnr_db") == result.image_psnr_db
    assert result.perceptual is None
    assert "perceptual" not in result.scalars()


class ConstantDistance(torch.nn.Module):
    """A perceptual distance of known size."""

    def forward(self, original: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        return 0 * (original - reconstruction).flatten(1).mean(1) + 0.25


def test_a_smaller_distance_is_a_better_score(model: SweetTok, clips: torch.Tensor) -> None:
    result = evaluate(model, [clips], device=CPU, perceptual=ConstantDistance())  # type: ignore[arg-type]
    assert result.perceptual == pytest.approx(0.25)
    assert result.score("perceptual") == pytest.approx(-0.25)


def test_pictures_show_the_original_above_its_reconstruction(
    model: SweetTok, clips: torch.Tensor
) -> None:
    pictures = reconstruction_pictures(model, clips[:2], CPU)
    assert pictures.shape == (2, 64, 144, 3)
    assert torch.equal(pictures[1, :32, 48:96], clips[1, 4])
    assert torch.equal(pictures[0, :32, 96:], clips[0, 8])
    assert not torch.equal(pictures[0, 32:, 96:], clips[0, 8])
