"""What a corpus is, and its listing: files, manifests and tar shards, in any mix.

    for batch in list_batches(SourceConfig(uris=("s3://bucket/videos",))): ...

A listing is deterministic and a stream: memory grows with the largest folder or shard, not with the
corpus. Not a byte of a video is read, unless fingerprints of content are asked for.
"""

from pipeline.sources.config import ManifestConfig, ShardConfig, SourceConfig
from pipeline.sources.listing import find_video, list_batches, list_videos

__all__ = [
    "ManifestConfig",
    "ShardConfig",
    "SourceConfig",
    "find_video",
    "list_batches",
    "list_videos",
]
