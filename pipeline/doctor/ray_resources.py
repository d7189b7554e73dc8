"""The Ray cluster: does it answer, does it let us in, has it room for what the config asks for."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.cluster import ClusterConfig, connect, resources
from pipeline.doctor.finding import Finding, ok
from pipeline.encode_config import EncodeConfig
from pipeline.engine import EngineConfig


def look_at_cluster(
    cluster: ClusterConfig, encode: EncodeConfig, engine: EngineConfig
) -> Iterator[Finding]:
    """Connects as a run does, and compares what is there with what it needs at one time."""
    connect(cluster)
    there = resources()
    num_gpus = encode.num_gpus(has_gpu=there.get("GPU", 0) > 0)
    needed = {
        "CPU": encode.num_own_cpus(num_gpus) + engine.num_cpus_per_decode_task,
        "GPU": encode.num_actors * num_gpus,
    }
    remedies = {
        "CPU": "lower engine.num_cpus_per_decode_task or what encoders reserve, or add nodes",
        "GPU": "lower encode.num_actors, share GPUs (encode.num_gpus_per_actor=0.5) or add nodes",
    }
    for name, number in needed.items():
        detail = f"{there.get(name, 0):g} there, {number:g} needed at one time"
        if there.get(name, 0) < number:
            yield Finding(f"Ray {name}s", "failed", detail, remedies[name])
        else:
            yield ok(f"Ray {name}s", detail)
    memory = there.get("memory", 0)
    detail = f"{memory / 2**30:.1f} GiB for tasks"
    if memory < engine.memory_bytes_per_decode_task:
        remedy = "lower engine.memory_bytes_per_decode_task, or add memory"
        yield Finding("Ray memory", "failed", detail, remedy)
    else:
        yield ok("Ray memory", detail)
