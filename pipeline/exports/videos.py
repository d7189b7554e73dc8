"""Clips that come video by video, gathered into interleaved sequences of text and video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Int

from pipeline.errors import PipelineError
from pipeline.reading import TokenBatch
from pipeline.sequences import SequenceVocabulary
from pipeline.sequences.interleaved import ClipTokens, VideoText, VideoWords


def interleaved_sequences(
    batches: Iterable[TokenBatch],
    vocabulary: SequenceVocabulary,
    text_tokenizer: str,
    caption_column: str | None,
    max_length: int,
) -> tuple[Iterator[Int[np.ndarray, " length"]], int, dict[str, Any]]:
    """The sequences of all videos, the number of ids, and how the ids are laid out.

    Args:
        batches: Clips in the order of the data files, which keep a video's clips together.
        vocabulary: Of the token dataset.
        text_tokenizer: Directory of a language model's tokenizer.
        caption_column: Column with the text.
        max_length: Longest sequence.

    Raises:
        PipelineError: The library or the tokenizer cannot be loaded.
        SequenceError: While reading: a caption does not fit, or not even one clip does.
    """
    tokenizer = _tokenizer(text_tokenizer)
    words = VideoWords.added_to(tokenizer, vocabulary)
    layout = {
        **vocabulary.to_mapping(),
        "text_tokenizer": text_tokenizer,
        "first_id": words.first_id,
        "first_spatial": words.first_spatial,
        "first_temporal": words.first_temporal,
    }
    sequences = (
        np.array(piece, np.int32)
        for video in _videos(batches, caption_column)
        for piece in words.pack_all(tokenizer, video, max_length=max_length)
    )
    return sequences, len(tokenizer), layout


def _videos(batches: Iterable[TokenBatch], caption_column: str | None) -> Iterator[VideoText]:
    clips = (clip for batch in batches for clip in _clips(batch, caption_column))
    for _, of_video in groupby(clips, key=lambda clip: clip[0]):
        parts = list(of_video)
        yield VideoText(parts[0][1], tuple(clip for _, _, clip in parts))


def _clips(batch: TokenBatch, caption_column: str | None) -> Iterator[tuple[str, str, ClipTokens]]:
    columns = batch.listed_columns()
    spatial, temporal = batch.spatial.tolist(), batch.temporal.tolist()
    for number, uri in enumerate(columns["video_uri"]):
        caption = columns[caption_column][number] if caption_column else None
        tokens = ClipTokens(
            tuple(spatial[number]),
            tuple(temporal[number]),
            columns["start_s"][number],
            columns["end_s"][number],
        )
        yield uri, str(caption or ""), tokens


def _tokenizer(directory: str) -> Any:
    try:
        from transformers import AutoTokenizer  # takes seconds, and few jobs need it
    except ImportError:
        raise PipelineError(
            "interleaved sequences need the package transformers; install sweettok[generator]"
        ) from None
    try:
        return AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{directory}: no tokenizer can be loaded: {error}") from error
