"""Connecting to Ray: the embedded one on a laptop, a running cluster, or the job's own."""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter

import pydantic
import ray
import ray.data
from ray.exceptions import AuthenticationError

from pipeline.cluster_plan import NodeShape
from pipeline.errors import PipelineError
from pipeline.termination import own_handler_kept
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)

# Torch's CPU threads spin while they wait for each other; beside a decoder on the same cores that
# cost a factor of ten in training steps per second. A short spin costs little alone (LOG.md).
WORKER_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"}
# In an embedded run all workers print to the user's terminal; one line per epoch is too much.
QUIET_ENVIRONMENT = {
    "RAY_DATA_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore::DeprecationWarning,ignore::FutureWarning",
}
LEAST_CPUS = 2
_EMBEDDED = "RAY_API_SERVER_ADDRESS"  # set in the environment of embedded workers only


class ClusterConfig(StrictConfig):
    """Which Ray cluster to use.

    Attributes:
        address: "ray://…", "host:port" or "auto"; null uses RAY_ADDRESS (set by `ray job submit`)
            or, without one, starts Ray inside this process for the run.
        num_cpus: CPU cores of the embedded Ray; null takes all, and at least two (one to decode,
            one to encode), real or not. Ignored on a running cluster.
        object_store_bytes: Object store of the embedded Ray; null lets Ray choose.
    """

    address: str | None = None
    num_cpus: int | None = pydantic.Field(default=None, ge=1)
    object_store_bytes: int | None = pydantic.Field(default=None, ge=80 * 2**20)


def connect(config: ClusterConfig) -> None:
    """Connects this process to Ray; does nothing if it already is.

    Raises:
        PipelineError: No cluster answers at the address, or one does and refuses the token.
    """
    if ray.is_initialized():
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    # Relative paths of a config mean the same to training workers as to the job.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # The pipeline prints its own progress; Ray Data's bars would drown it.
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for chatty in ("ray.data", "ray._private.authentication"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with own_handler_kept():
        if address:
            _join(address)
        else:
            _start(config)
    resources = ray.cluster_resources()
    logger.info(
        "Ray %s: %s, %g CPUs, %g GPUs, %d node(s)",
        ray.__version__,
        f"cluster at {address}" if address else "embedded in this run",
        resources.get("CPU", 0),
        resources.get("GPU", 0),
        len(ray.nodes()),
    )


def check_room(num_needed: float, remedy: str, *, resource: str = "CPU") -> None:
    """Checks that the connected cluster has what a run cannot make progress without.

    Only warns on a running cluster, which may grow by itself.

    Raises:
        PipelineError: The embedded Ray, which cannot grow, has too few.
    """
    available = ray.cluster_resources().get(resource, 0)
    if num_needed <= available:
        return
    message = (
        f"the run needs {num_needed:g} {resource}s at one time, Ray has {available:g}; {remedy}"
    )
    if _EMBEDDED in ray.get_runtime_context().runtime_env.get("env_vars", {}):
        raise PipelineError(message)
    logger.warning("%s, or wait until the cluster has more", message)


def check_own_node() -> None:
    """Checks that the node through which this process talks to the cluster still lives.

    Raises:
        PipelineError: It does not; nothing can be started from here any more.
    """
    own_id = ray.get_runtime_context().get_node_id()
    if not any(node["NodeID"] == own_id and node["Alive"] for node in ray.nodes()):
        raise PipelineError(
            "the Ray node of this process has died, and with it the run; what was committed "
            "stays. Start the node again, then run the same command: it continues"
        )


def connected_nodes() -> tuple[NodeShape, ...]:
    """The living nodes of the connected cluster that have cores, alike ones together."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    shapes = Counter((each.get("CPU", 0.0), each.get("GPU", 0.0)) for each in resources)
    return tuple(
        NodeShape(num_cpus=num_cpus, num_gpus=num_gpus, num_nodes=count)
        for (num_cpus, num_gpus), count in sorted(shapes.items(), reverse=True)
        if num_cpus
    )


def resources() -> dict[str, float]:
    """What the connected cluster has in all: "CPU", "GPU", "memory" in bytes and others."""
    return {name: float(number) for name, number in ray.cluster_resources().items()}


def has_gpu() -> bool:
    """Whether any node of the connected cluster has a GPU."""
    return ray.cluster_resources().get("GPU", 0) > 0


def _join(address: str) -> None:
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
            logging_level=logging.WARNING,
        )
    except (AuthenticationError, ConnectionError, RuntimeError, TimeoutError) as error:
        if _is_refusal(error):
            raise PipelineError(
                f"the Ray cluster at {address!r} takes a token, and this process has none or "
                "another; set RAY_AUTH_MODE=token and give the cluster's own as RAY_AUTH_TOKEN, in "
                "the file RAY_AUTH_TOKEN_PATH or in ~/.ray/auth_token"
            ) from None
        raise PipelineError(
            f"no Ray cluster answers at {address!r} ({' '.join(str(error).split())[:200]}); "
            "start one, correct cluster.address or RAY_ADDRESS, or leave both empty to run Ray "
            "inside this process"
        ) from None


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a token was refused or missing; Ray says so deep in the causes of its error."""
    while error is not None:
        if isinstance(error, AuthenticationError) or AuthenticationError.__name__ in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _start(config: ClusterConfig) -> None:
    # Ray Train asks the dashboard for the state of its workers. Without an address it looks for
    # whatever cluster was started last on this machine, and waits for it if that one is gone.
    port = _free_port()
    # By default Ray's services interrupt workers whenever they have the least to do, which makes
    # decoding some ten percent dearer. Here workers are the user's own work, as this process is.
    os.environ.setdefault("RAY_worker_niceness", "0")
    dashboard = {_EMBEDDED: f"http://127.0.0.1:{port}"}
    try:
        ray.init(
            address="local",  # otherwise Ray joins, or waits for, whatever ran here before
            num_cpus=config.num_cpus or max(LEAST_CPUS, os.cpu_count() or 1),
            object_store_memory=config.object_store_bytes,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=port,
            runtime_env={"env_vars": WORKER_ENVIRONMENT | QUIET_ENVIRONMENT | dashboard},
            logging_level=logging.WARNING,
        )
    except Exception as error:  # Ray has no narrower one for this
        if "timed out during startup" not in str(error):
            raise
        raise PipelineError(
            "Ray did not come up within its 30 s; the machine is too busy or out of memory: run "
            "the same command again when it has room, or set cluster.address to a running cluster"
        ) from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
