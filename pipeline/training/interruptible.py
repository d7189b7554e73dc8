"""Ray Train's `fit`, but Ctrl-C ends it as it ends any other job."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import ray.exceptions
import ray.train
import ray.train.torch

from pipeline.errors import PipelineError


def fit_interruptibly(trainer: ray.train.torch.TorchTrainer) -> ray.train.Result:
    """`trainer.fit()` in a thread of its own.

    On the main thread Ray Train takes Ctrl-C for itself and ends the process with exit code 1 after
    a quarter of a minute; here it interrupts the job like any other.
    """
    outcome: Future[ray.train.Result] = Future()

    def fit() -> None:
        try:
            outcome.set_result(trainer.fit())
        except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
            outcome.set_exception(error)
        finally:
            if not outcome.done():
                outcome.set_exception(PipelineError("training broke off; see the traceback above"))

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    return outcome.result()
