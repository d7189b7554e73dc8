"""How long a run takes until its stages are at work.

That is importing: Ray's services, the committer and the processes of the stages begin one after
another, each as a fresh Python process. So one is started here and timed, which also tells how fast
this machine is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from pipeline.errors import PipelineError

PROCESSES_IN_A_ROW = 3.8
"""Start-up of a run with the embedded Ray, in times of one such process (LOG.md)."""

_WHAT_A_STAGE_IMPORTS = "import pipeline.decode_encode, pipeline.encoding, ray.data, sweettok"


def start_up_s() -> float:
    """Seconds from the start of a run to the first clip that is decoded.

    Raises:
        PipelineError: A fresh process cannot import what the stages need.
    """
    began_s = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", _WHAT_A_STAGE_IMPORTS],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:]
        raise PipelineError(f"a process of a stage cannot start here: {''.join(last)}")
    return PROCESSES_IN_A_ROW * (time.perf_counter() - began_s)
