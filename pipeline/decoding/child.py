"""The decoding child: a program that reads untrusted files so that its parent does not have to.

Started by `pipeline.decoding.isolation` as

    python -P -m pipeline.decoding.child SOCKET_FD MEMORY_FD

There may be one beside every worker, so it must start fast and stay small: no torch, no ray.
"""

from __future__ import annotations

import importlib.util
import signal
import sys
from multiprocessing.connection import Connection


def main() -> None:
    """Serves the parent whose end of the socket is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    socket_fd, memory_fd = map(int, sys.argv[1:])
    _enter_package_without_running_it("sweettok")
    from pipeline.decoding.clip_server import ClipServer

    try:
        ClipServer(Connection(socket_fd), memory_fd).run()
    except (EOFError, ConnectionError):
        return


def _enter_package_without_running_it(name: str) -> None:
    """Makes the package's modules importable one by one.

    The settings classes live in modules that need nothing but pydantic, while the package itself
    offers the model to its users and so imports torch: seconds and half a gigabyte per child.
    """
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} must be importable beside pipeline"
    sys.modules[name] = importlib.util.module_from_spec(spec)


if __name__ == "__main__":
    main()
