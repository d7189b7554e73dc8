"""Interleaved text and video for a Hugging Face language model.

    words = VideoWords.added_to(tokenizer, vocabulary)      # the tokenizer now knows our ids
    extend_embeddings(model, tokenizer, words, lexicon)     # and the model has rows for them
    ids = words.pack(tokenizer, VideoText("a dog runs", clips))

A video is written as

    <video> caption <clip> start-end <spatial ids> <temporal ids> <clip> … </video>

with times as text in seconds ("1.25-2.5"), so that a language model reads them as it reads numbers.
`unpack` gives back what was packed: the same ids, the caption to the character, the times to the
millisecond.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.sequences.vocabulary import SequenceError, SequenceVocabulary
from sweettok import Lexicon

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MARKS = ("<video>", "</video>", "<clip>", "<tokens>")
_TIMES = re.compile(r"(\d+(?:\.\d{1,3})?)-(\d+(?:\.\d{1,3})?)")
_TIME_DIGITS = 3


@dataclass(frozen=True)
class ClipTokens:
    """One clip of a video.

    Attributes:
        spatial: Ids into the spatial codebook.
        temporal: Ids into the temporal codebook.
        start_s, end_s: When the clip begins and ends in the video, in seconds.
    """

    spatial: tuple[int, ...]
    temporal: tuple[int, ...]
    start_s: float
    end_s: float


@dataclass(frozen=True)
class VideoText:
    """A video, or a part of it, with its text.

    Attributes:
        caption: Any text; may be empty.
        clips: The clips in their order.
    """

    caption: str
    clips: tuple[ClipTokens, ...]


@dataclass(frozen=True)
class VideoWords:
    """Where our ids lie in a language model's vocabulary.

    Attributes:
        vocabulary: Codebook sizes and tokens per clip.
        first_id: Id of the first mark; marks, spatial and temporal ids follow without a gap.
    """

    vocabulary: SequenceVocabulary
    first_id: int

    @classmethod
    def added_to(
        cls, tokenizer: PreTrainedTokenizerBase, vocabulary: SequenceVocabulary
    ) -> VideoWords:
        """Adds our ids to `tokenizer`, or finds them where they were added before.

        Raises:
            SequenceError: The tokenizer knows some of our words already, but not as ours.
        """
        names = _names(vocabulary)
        known = [name for name in (names[0], names[-1]) if name in tokenizer.get_added_vocab()]
        if not known:
            tokenizer.add_tokens(names, special_tokens=True)
        found: Any = tokenizer.convert_tokens_to_ids(names)
        first = int(found[0])
        if found != list(range(first, first + len(names))):
            raise SequenceError(
                "the tokenizer has some of the video words already, for another codebook or in "
                "another order; start from the language model's own tokenizer"
            )
        return cls(vocabulary, first)

    @property
    def num_words(self) -> int:
        """Words that were added."""
        return len(_MARKS) + self.vocabulary.num_spatial_words + self.vocabulary.num_temporal_words

    @property
    def first_spatial(self) -> int:
        """Id of spatial word 0."""
        return self.first_id + len(_MARKS)

    @property
    def first_temporal(self) -> int:
        """Id of temporal word 0."""
        return self.first_spatial + self.vocabulary.num_spatial_words

    def pack(self, tokenizer: PreTrainedTokenizerBase, video: VideoText) -> list[int]:
        """The ids of one video in the language model's vocabulary.

        Raises:
            SequenceError: A clip has other numbers of tokens, an id out of range or a time below 0,
                or the tokenizer does not give the caption back as it was.
        """
        clips = (self._packed_clip(tokenizer, clip) for clip in video.clips)
        return self._enclosed(self._text(tokenizer, video.caption), clips)

    def pack_all(
        self, tokenizer: PreTrainedTokenizerBase, video: VideoText, *, max_length: int
    ) -> Iterator[list[int]]:
        """A long video in pieces of at most `max_length` ids, whole clips each, caption in each.

        A video without clips gives none.

        Raises:
            SequenceError: As `pack`; or not even one clip fits.
        """
        caption = self._text(tokenizer, video.caption)
        held: list[list[int]] = []
        length = least = len(self._enclosed(caption, []))
        for clip in video.clips:
            packed = self._packed_clip(tokenizer, clip)
            if least + len(packed) > max_length:
                raise SequenceError(
                    f"a clip with its caption takes {least + len(packed)} ids, max_length is "
                    f"{max_length}"
                )
            if length + len(packed) > max_length:
                yield self._enclosed(caption, held)
                held, length = [], least
            held.append(packed)
            length += len(packed)
        if held:
            yield self._enclosed(caption, held)

    def unpack(self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> VideoText:
        """The video of `ids`: the inverse of `pack`.

        Raises:
            SequenceError: The ids are no packed video.
        """
        first, last = self._mark("<video>"), self._mark("</video>")
        if len(ids) < 2 or ids[0] != first or ids[-1] != last or ids.count(first) > 1:
            raise SequenceError("a packed video begins with <video> and ends with </video>")
        caption, *clips = _split(ids[1:-1], self._mark("<clip>"))
        return VideoText(
            self._words(tokenizer, caption), tuple(self._clip(tokenizer, clip) for clip in clips)
        )

    def _mark(self, name: str) -> int:
        return self.first_id + _MARKS.index(name)

    def _enclosed(self, caption: list[int], clips: Iterable[list[int]]) -> list[int]:
        inner = (token for clip in clips for token in clip)
        return [self._mark("<video>"), *caption, *inner, self._mark("</video>")]

    def _packed_clip(self, tokenizer: PreTrainedTokenizerBase, clip: ClipTokens) -> list[int]:
        times = self._text(tokenizer, f"{_seconds(clip.start_s)}-{_seconds(clip.end_s)}")
        return [self._mark("<clip>"), *times, self._mark("<tokens>"), *self._ids(clip)]

    def _ids(self, clip: ClipTokens) -> list[int]:
        sizes = self.vocabulary
        ids: list[int] = []
        for kind, tokens, count, words, first in (
            ("spatial", clip.spatial, sizes.num_spatial_tokens, sizes.num_spatial_words,
             self.first_spatial),
            ("temporal", clip.temporal, sizes.num_temporal_tokens, sizes.num_temporal_words,
             self.first_temporal),
        ):  # fmt: skip
            if len(tokens) != count or any(not 0 <= token < words for token in tokens):
                raise SequenceError(
                    f"a clip must have {count} {kind} ids in [0, {words}), got {len(tokens)} in "
                    f"[{min(tokens, default=0)}, {max(tokens, default=0)}]"
                )
            ids += [first + int(token) for token in tokens]
        return ids

    def _clip(self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> ClipTokens:
        times, *tokens = _split(ids, self._mark("<tokens>"))
        found = _TIMES.fullmatch(self._words(tokenizer, times))
        sizes = self.vocabulary
        count = sizes.num_spatial_tokens
        if found is None or len(tokens) != 1 or len(tokens[0]) != count + sizes.num_temporal_tokens:
            raise SequenceError(
                "a packed clip is <clip> start-end <tokens> and its "
                f"{count} + {sizes.num_temporal_tokens} ids"
            )
        clip = ClipTokens(
            tuple(token - self.first_spatial for token in tokens[0][:count]),
            tuple(token - self.first_temporal for token in tokens[0][count:]),
            float(found[1]),
            float(found[2]),
        )
        self._ids(clip)  # refuses ids that stand in the wrong place
        return clip

    def _text(self, tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False) if text else []
        inside = range(self.first_id, self.first_id + self.num_words)
        if any(token in inside for token in ids) or self._words(tokenizer, ids) != text:
            raise SequenceError(
                f"the tokenizer does not give {text[:80]!r} back as it was: it changes the text, "
                "or the text holds one of the video words; clean the caption first"
            )
        return ids

    def _words(self, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
        if not ids:
            return ""
        return str(
            tokenizer.decode(
                list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


@torch.no_grad()
def extend_embeddings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    words: VideoWords,
    lexicon: Lexicon | None = None,
) -> None:
    """Gives `model` rows for our ids, in its input embeddings and its output layer.

    The row of a code begins as the mean of the model's own rows for the code's word, "dog" or
    "slowly": the codes are words, so the model has met them. Marks, words that the tokenizer has no
    piece for, and all rows without a lexicon begin as the mean of all rows.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer, after `VideoWords.added_to`.
        words: Where our ids lie.
        lexicon: The tokenizer's words, in the order of the codes.

    Raises:
        SequenceError: The lexicon has other numbers of words than the codebooks.
    """
    tables = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    own = {name: table.weight[: words.first_id].clone() for name, table in tables.items() if table}
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tables = {"input": model.get_input_embeddings(), "output": model.get_output_embeddings()}
    pieces = None if lexicon is None else _pieces(tokenizer, words, lexicon)
    for name, rows in own.items():
        weight = tables[name].weight
        weight[words.first_id : words.first_id + words.num_words] = rows.float().mean(0).to(rows)
        for number, ids in enumerate(pieces or ()):
            if ids:
                weight[words.first_spatial + number] = rows[ids].float().mean(0).to(rows)


def _pieces(
    tokenizer: PreTrainedTokenizerBase, words: VideoWords, lexicon: Lexicon
) -> list[list[int]]:
    """For every code the ids of its word's pieces, written as within a text."""
    sizes = words.vocabulary
    for kind, num_words, count in (
        ("spatial", len(lexicon.spatial.words), sizes.num_spatial_words),
        ("temporal", len(lexicon.temporal.words), sizes.num_temporal_words),
    ):
        if num_words != count:
            raise SequenceError(
                f"the lexicon has {num_words} {kind} words, the codebook {count}; take the lexicon "
                "that is saved with the tokenizer"
            )
    texts = [f" {word}" for word in (*lexicon.spatial.words, *lexicon.temporal.words)]
    found: Any = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [[piece for piece in pieces if piece < words.first_id] for pieces in found]


def _names(vocabulary: SequenceVocabulary) -> list[str]:
    return [
        *_MARKS,
        *(f"<s{number}>" for number in range(vocabulary.num_spatial_words)),
        *(f"<t{number}>" for number in range(vocabulary.num_temporal_words)),
    ]


def _seconds(value: float) -> str:
    rounded = round(value, _TIME_DIGITS) + 0.0  # no "-0"
    if not 0 <= rounded < math.inf:
        raise SequenceError(f"a clip cannot begin or end at {value} s")
    return f"{rounded:.{_TIME_DIGITS}f}".rstrip("0").rstrip(".")


def _split(ids: Sequence[int], mark: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
