"""Fixtures that many tests share: a small lexicon and tokenizer, and one Ray cluster a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from sweettok import Lexicon, SweetTok
from tests.job_runs import HeadNode, started_head
from tests.quickstart_run import newcomer
from tests.s3_server import endpoint_url
from tests.tiny_models import random_lexicon, tiny_config

__all__ = ["endpoint_url", "newcomer"]

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
torch.set_num_threads(2)


@pytest.fixture(scope="session")
def lexicon() -> Lexicon:
    """96 + 64 random words with a random graph."""
    return random_lexicon(num_spatial=96, num_temporal=64, word_dim=24)


@pytest.fixture
def model(lexicon: Lexicon) -> SweetTok:
    """An untrained tokenizer for clips of 9×32×48 px, in inference mode."""
    torch.manual_seed(0)
    return SweetTok(tiny_config(), lexicon).eval()


@pytest.fixture
def lively(model: SweetTok) -> SweetTok:
    """The same, but its heads are not grey, so that pixels depend on tokens."""
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    return model


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory, lexicon: Lexicon) -> str:
    """A saved untrained tokenizer."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("tokenizer")
    SweetTok(tiny_config(), lexicon).eval().save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray inside the test process, two CPUs, shared by all tests that need it."""
    import ray

    from pipeline.cluster import ClusterConfig, connect

    connect(ClusterConfig(num_cpus=2, object_store_bytes=300 * 2**20))
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def head_node() -> Iterator[HeadNode]:
    """A head node that an operator has started, with room for two small jobs at one time."""
    with started_head(num_cpus=4) as head:
        yield head
