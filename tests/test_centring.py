"""Centring of latents: as PyTorch's batch norm on one worker, as one large batch on several."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

from sweettok.centring import EPSILON, MOMENTUM, LatentCentring


def test_one_worker_is_batch_norm_with_the_same_statistics() -> None:
    torch.manual_seed(0)
    centring, reference = LatentCentring(6), torch.nn.BatchNorm1d(6, EPSILON, MOMENTUM, False)
    for _ in range(3):
        latents = torch.randn(20, 6) * 3 + 5
        assert torch.allclose(centring(latents), reference(latents))
    for name, value in centring.state_dict().items():
        assert torch.equal(reference.state_dict()[name], value), name
    centring.eval(), reference.eval()
    before = centring.running_mean.clone()
    assert torch.equal(centring(latents), reference(latents))
    assert torch.equal(centring.running_mean, before)


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    latents = torch.load(f"{folder}/latents.pt", weights_only=True)
    share = (latents[:7] if rank == 0 else latents[7:]).requires_grad_()
    centring = LatentCentring(4)
    centred = centring(share)
    centred.pow(3).sum().backward()
    torch.save(
        {
            "centred": centred.detach(),
            "gradient": share.grad,
            "mean": centring.running_mean,
            "variance": centring.running_var,
        },
        f"{folder}/{rank}.pt",
    )
    torch.distributed.destroy_process_group()


def test_two_workers_with_unequal_shares_are_one_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    latents = torch.randn(20, 4) * 2 + 30
    torch.save(latents, tmp_path / "latents.pt")
    torch.multiprocessing.spawn(_work, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    whole = LatentCentring(4)
    latents.requires_grad_()
    centred = whole(latents)
    centred.pow(3).sum().backward()
    assert torch.allclose(torch.cat([part["centred"] for part in parts]), centred, atol=1e-4)
    assert torch.allclose(torch.cat([part["gradient"] for part in parts]), latents.grad, atol=1e-3)
    for part in parts:
        assert torch.allclose(part["mean"], whole.running_mean, atol=1e-5)
        assert torch.allclose(part["variance"], whole.running_var, atol=1e-5)
