"""The decode stage: a work unit goes in, its clips and its end come out.

Plain Python, engine or not: construct in the driver (only small configs), `setup` in the worker,
`process` per unit, `close` at the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from pipeline.clips import ClipConfig
from pipeline.decoding.cutting import CutSettings, FileCutter, InProcessCutter
from pipeline.decoding.fallback import cut_clips
from pipeline.decoding.interface import DecodeConfig, DecodeError
from pipeline.decoding.isolation import IsolatedCutter
from pipeline.errors import PipelineError, QuarantineReason, RecordError
from pipeline.preprocessing import PreprocessConfig
from pipeline.records import Clip, Quarantine, UnitEnd, WorkUnit
from pipeline.storage import StorageConfig, local_copy
from sweettok.geometry import ClipGeometry

logger = logging.getLogger(__name__)

_MAX_MESSAGE_CHARACTERS = 500


class DecodeStage:
    """Turns each unit into its clips, then one `UnitEnd`; never raises for one video's fault."""

    def __init__(
        self,
        decode: DecodeConfig,
        clips: ClipConfig,
        preprocess: PreprocessConfig,
        geometry: ClipGeometry,
        storage: StorageConfig,
    ) -> None:
        self.settings = CutSettings(decode, clips, preprocess, geometry)
        self.storage = storage
        self._cutter: FileCutter | None = None

    def setup(self) -> None:
        """Prepares the decoder; a child process loads while the caller prepares other things.

        Raises:
            PipelineError: A decoder that is named cannot be loaded here, or no child be started.
        """
        if self.settings.decode.isolation == "none":
            self._cutter = InProcessCutter(self.settings)
            return
        cutter = self._cutter = IsolatedCutter(self.settings)
        cutter.start()

    def process(self, unit: WorkUnit) -> Iterator[Clip | UnitEnd]:
        """Yields the clips of `unit`, then its end; a part of a video may have no clip.

        If the end carries a quarantine, the clips yielded before it are not to be kept.

        Raises:
            PipelineError: Not the video's fault, such as a store without a driver.
        """
        assert self._cutter is not None, "call setup first"
        num_clips = 0
        quarantine = None
        began_s, away_s = time.monotonic(), 0.0
        try:
            if unit.fault is not None:
                raise RecordError(unit.fault.reason, unit.fault.message, stage="read")
            max_bytes = self.settings.decode.max_file_bytes
            with local_copy(
                unit.uri, self.storage, max_bytes=max_bytes, member=unit.member
            ) as path:
                for clip in cut_clips(path, unit, self.settings, self._cutter):
                    num_clips += 1
                    given_s = time.monotonic()
                    yield clip
                    away_s += time.monotonic() - given_s
        except RecordError as error:
            quarantine = quarantine_of(error)
        except PipelineError:
            raise
        except Exception as error:  # the record boundary: nowhere else
            logger.exception("unexpected failure on %s", unit.uri)
            message = f"{type(error).__name__}: {error}"
            quarantine = quarantine_of(
                DecodeError(QuarantineReason.UNDECODABLE, message, error_class=type(error).__name__)
            )
        decode_s = time.monotonic() - began_s - away_s
        yield UnitEnd(unit, 0 if quarantine else num_clips, quarantine, decode_s)

    def close(self) -> None:
        """Ends the child process; safe to call twice."""
        if self._cutter is not None:
            self._cutter.close()


def quarantine_of(error: RecordError) -> Quarantine:
    """The quarantine that `error` means for its unit."""
    failure = DecodeError.from_error(error, attempts=getattr(error, "attempts", 1))
    return Quarantine(
        reason=failure.reason,
        stage=failure.stage,
        error_class=failure.error_class,
        message=" ".join(str(failure).split())[:_MAX_MESSAGE_CHARACTERS],
        attempts=failure.attempts,
    )
