"""The settings of every stage between a corpus and a dataset, for each job that runs them."""

from __future__ import annotations

import functools
from pathlib import Path

from pipeline.clips import ClipConfig
from pipeline.cluster import ClusterConfig
from pipeline.dataset import CommitConfig
from pipeline.decoding.interface import DecodeConfig
from pipeline.encode_config import EncodeConfig
from pipeline.engine import EngineConfig
from pipeline.preprocessing import PreprocessConfig
from pipeline.sources import SourceConfig
from sweettok.hub import local_directory
from sweettok.strict_config import StrictConfig


class StageSettings(StrictConfig):
    """How a corpus becomes tokens; where the tokens go is each job's own business.

    Attributes:
        source: Which videos.
        tokenizer: Directory of the tokenizer (see `SweetTok.save_pretrained`), the name of one that
            comes with the package ("natural_64"), or its id on the Hugging Face hub.
        clips, preprocess, decode, encode, commit, engine, cluster: Settings of the parts, described
            where each is defined.
    """

    source: SourceConfig
    tokenizer: str
    clips: ClipConfig = ClipConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    decode: DecodeConfig = DecodeConfig()
    encode: EncodeConfig = EncodeConfig()
    commit: CommitConfig = CommitConfig()
    engine: EngineConfig = EngineConfig()
    cluster: ClusterConfig = ClusterConfig()

    @property
    def tokenizer_directory(self) -> Path:
        """Where the tokenizer lies; one of the hub is fetched first.

        The same for a whole process, also if a branch of the hub moves meanwhile.

        Raises:
            CheckpointError: It cannot be fetched.
        """
        return _resolved(self.tokenizer)


@functools.cache
def _resolved(tokenizer: str) -> Path:
    return local_directory(tokenizer)
