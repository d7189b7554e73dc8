"""Both stages in one process, for encoders on a CPU: pixels never leave it.

Where no GPU waits to be fed, an encoder of its own only takes cores from the decoders, and every
clip travels through the object store to reach it. Here each process encodes what it has decoded.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator

import pyarrow as pa

from pipeline.actors import CommitTarget
from pipeline.decode_task import DecodeSpec
from pipeline.encode_config import EncodeConfig
from pipeline.records import Clip, TokenizedClip, UnitEnd, WorkUnit
from pipeline.transport import Record, records_to_table, table_to_records

_RECORDS_PER_TABLE = 32  # a table of tokens is small, but an object that the engine handles
_BATCHES_PER_TURN = 8
_BYTES_PER_TURN = 64 * 2**20


class DecodingEncoder:
    """An actor that turns work units into tokens: the decode stage, then the encode stage."""

    def __init__(self, target: CommitTarget, decode: DecodeSpec, encode: EncodeConfig) -> None:
        self._decode = decode.stage()
        self._decode.setup()
        self._encode = encode.stage(target.open().tokenizer_files())
        self._encode.setup()
        # Long turns: decoder and encoder that alternate clip by clip on one core push each other
        # out of its caches.
        fitting = _BYTES_PER_TURN // decode.settings.clip_bytes
        batches = min(_BATCHES_PER_TURN, max(1, fitting // encode.batch_size))
        self._clips_per_turn = batches * encode.batch_size

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Takes units; gives tables of their tokens and ends."""
        ready: list[Record] = []
        for record in self._tokenized(table_to_records(table)):
            ready.append(record)
            if len(ready) == _RECORDS_PER_TABLE:
                yield records_to_table(ready)
                ready = []
        if ready:
            yield records_to_table(ready)

    def _tokenized(self, units: Iterable[Record]) -> Iterator[TokenizedClip | UnitEnd]:
        """Clips are gathered across units until it is the encoder's turn."""
        clips: list[Clip] = []
        for unit in units:
            assert isinstance(unit, WorkUnit)
            for record in self._decode.process(unit):
                if isinstance(record, UnitEnd):
                    yield record
                    continue
                clips.append(record)
                if len(clips) == self._clips_per_turn:
                    yield from self._encoded(clips)
                    clips = []
        yield from self._encoded(clips)

    def _encoded(self, clips: list[Clip]) -> list[TokenizedClip]:
        began_s = time.monotonic()
        tokens = self._encode.process(clips)
        spent_s = (time.monotonic() - began_s) / max(1, len(tokens))
        return [dataclasses.replace(clip, encode_s=spent_s) for clip in tokens]
