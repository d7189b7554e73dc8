"""Many raylets on this machine, each with a GPU that does not exist."""

from __future__ import annotations

import os
from types import TracebackType

import ray
from ray.cluster_utils import Cluster

from pipeline.cluster import ClusterConfig, connect
from pipeline.errors import PipelineError
from pipeline.scaling.cluster_config import SimulatedNodeConfig

# Raylets on loopback that end with this process; a token would have to reach every one of them.
_AUTHENTICATION = "RAY_AUTH_MODE"
_START_ATTEMPTS = 2  # Ray gives a node 30 s, too few on a busy machine


class SimulatedCluster:
    """A head without a GPU, and one node per GPU; this process is connected to it.

    Args:
        node: What each node claims, the head too but for its GPU.
    """

    def __init__(self, node: SimulatedNodeConfig) -> None:
        self._node = node
        self._num_gpus = 0
        os.environ[_AUTHENTICATION] = "disabled"
        self._cluster = Cluster()

    def __enter__(self) -> SimulatedCluster:
        try:
            self._add(num_gpus=0, include_dashboard=False)
            connect(ClusterConfig(address=self._cluster.address))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ray.shutdown()
        self._cluster.shutdown()

    def grow_to(self, num_gpus: int) -> None:
        """Adds nodes until the cluster has so many GPUs.

        Raises:
            PipelineError: A node does not come up.
        """
        while self._num_gpus < num_gpus:
            self._add(num_gpus=1)
            self._num_gpus += 1

    def _add(self, **claims: object) -> None:
        for attempt in range(1, _START_ATTEMPTS + 1):
            try:
                self._cluster.add_node(
                    num_cpus=self._node.num_cpus,
                    object_store_memory=self._node.object_store_bytes,
                    **claims,
                )
                return
            except Exception as error:  # Ray has no narrower one for this
                if "timed out during startup" not in str(error):
                    raise
                if attempt == _START_ATTEMPTS:
                    raise PipelineError(
                        f"node {self._num_gpus + 1} did not come up within Ray's 30 s; run the "
                        "same command when the machine has room, or lower num_gpus"
                    ) from None
