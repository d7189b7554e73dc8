"""The decoding child: a program that reads untrusted files so that its parent does not have to.

Started by `pipeline.decoding.isolation` as

    python -P -m pipeline.decoding.child SOCKET_FD MEMORY_FD

There may be one beside every worker, so it must start fast and stay small: no torch, no ray.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from pipeline.decoding import messages
from pipeline.decoding.clip_server import ClipServer
from pipeline.errors import PipelineError


def main() -> None:
    """Serves the parent whose end of the socket is the first argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    socket_fd, memory_fd = map(int, sys.argv[1:])
    connection = Connection(socket_fd)
    try:
        server = ClipServer(connection, memory_fd)
    except PipelineError as error:
        messages.send(connection, {"kind": "refusal", "message": str(error)})
        return
    try:
        server.run()
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main()
