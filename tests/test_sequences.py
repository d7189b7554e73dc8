"""Flat and interleaved sequences: exact inverses, legal places, a model's rows for our words."""

from __future__ import annotations

import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipeline.sequences.interleaved import (
    ClipTokens,
    VideoText,
    VideoWords,
    extend_embeddings,
)
from pipeline.sequences.vocabulary import BEGIN, END, NO_CLASS, SequenceError, SequenceVocabulary
from sweettok import Tokens
from tests.tiny_models import random_lexicon

WORDS = SequenceVocabulary(30, 20, 3, 4, 2, ("run", "sit"))


@st.composite
def vocabularies(draw: st.DrawFn) -> SequenceVocabulary:
    num_tubes = draw(st.integers(0, 3))
    return SequenceVocabulary(
        draw(st.integers(2, 50)),
        draw(st.integers(2, 50)),
        draw(st.integers(1, 6)),
        num_tubes * draw(st.integers(1, 4)),
        num_tubes,
        tuple(f"class {number}" for number in range(draw(st.integers(0, 3)))),
    )


def random_tokens(vocabulary: SequenceVocabulary, count: int, seed: int) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return Tokens(
        *(
            torch.randint(0, words, (count, tokens), generator=generator)
            for words, tokens in (
                (vocabulary.num_spatial_words, vocabulary.num_spatial_tokens),
                (vocabulary.num_temporal_words, vocabulary.num_temporal_tokens),
            )
        )
    )


@given(vocabularies(), st.integers(1, 5), st.integers(0, 9), st.data())
@settings(deadline=None)
def test_flat_sequences_give_back_their_clips_and_classes(
    vocabulary: SequenceVocabulary, count: int, seed: int, data: st.DataObject
) -> None:
    tokens = random_tokens(vocabulary, count, seed)
    names = st.sampled_from([None, *vocabulary.class_names])
    classes = torch.tensor([vocabulary.class_id(data.draw(names)) for _ in range(count)])
    sequences = vocabulary.to_sequences(tokens, classes)
    assert sequences.shape == (count, vocabulary.length)
    assert (sequences[:, 0] == BEGIN).all()
    assert (sequences[:, -1] == END).all()
    assert int(sequences.max()) < vocabulary.size
    found, found_classes = vocabulary.to_tokens(sequences)
    assert found.equal(tokens)
    assert torch.equal(found_classes, classes)
    assert SequenceVocabulary.from_mapping(vocabulary.to_mapping()) == vocabulary


def test_every_id_means_one_thing() -> None:
    ranges = [(int(first), int(last)) for first, last in WORDS.legal_ids().unique(dim=0)]
    assert sorted(ranges) == [(1, 2), (2, 3), (3, 6), (6, 36), (36, 56)]
    assert WORDS.size == 56
    assert WORDS.class_id("sit") == 5
    assert WORDS.class_id(None) == NO_CLASS


def test_a_prefix_is_the_beginning_of_a_clip() -> None:
    assert [WORDS.prefix_length(tubes) for tubes in range(3)] == [5, 7, 9]
    with pytest.raises(SequenceError, match="0 to 2 tubes, got 3"):
        WORDS.prefix_length(3)


@pytest.mark.parametrize(
    ("place", "token", "message"),
    [(0, END, "id 2 at place 0"), (2, 40, r"\[6, 36\) may stand"), (9, 1, "at place 9")],
)
def test_sequences_with_an_id_in_the_wrong_place_are_refused(
    place: int, token: int, message: str
) -> None:
    sequences = WORDS.to_sequences(random_tokens(WORDS, 3, 0))
    sequences[1, place] = token
    assert WORDS.is_legal(sequences).tolist() == [True, False, True]
    with pytest.raises(SequenceError, match=f"sequence 1 is no clip.*{message}"):
        WORDS.to_tokens(sequences)
    with pytest.raises(SequenceError, match="it has 9 ids, a clip has 10"):
        WORDS.to_tokens(sequences[:, :-1])


def test_what_does_not_fit_is_refused() -> None:
    tokens = random_tokens(WORDS, 1, 0)
    with pytest.raises(SequenceError, match="2 spatial tokens, the vocabulary is of clips with 3"):
        WORDS.to_sequences(Tokens(tokens.spatial[:, :2], tokens.temporal))
    with pytest.raises(SequenceError, match=r"temporal ids are in .* has 20 words"):
        WORDS.to_sequences(Tokens(tokens.spatial, tokens.temporal + 20))
    with pytest.raises(SequenceError, match="class ids must be in"):
        WORDS.to_sequences(tokens, torch.tensor([6]))
    with pytest.raises(SequenceError, match="no class 'fly'; the classes are: run, sit"):
        WORDS.class_id("fly")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer as language models have, trained on a few lines."""
    core = tokenizers.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    core.train_from_iterator(
        ["a dog runs over the grass", "noun0 noun1 verb3 adverb2"] * 9, trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>")


def piece_tokenizer() -> PreTrainedTokenizerFast:
    """One as SentencePiece makes them: spaces are marked, and bytes stand in for other letters."""
    bytes_ = [(f"<0x{number:02X}>", -9.0) for number in range(256)]
    words = [("▁", -2.0), ("▁a", -3.0), ("▁dog", -3.0), ("▁runs", -3.0), ("ing", -3.0)]
    letters = [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyz.-0123456789"]
    pieces = [("<unk>", 0.0), *bytes_, *words, *letters]
    core = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


TOKENIZERS = {"bytes": byte_tokenizer(), "pieces": piece_tokenizer()}
SIZES = {name: len(tokenizer) for name, tokenizer in TOKENIZERS.items()}


def clip(seed: int, start_s: float = 0.0) -> ClipTokens:
    tokens = random_tokens(WORDS, 1, seed)
    return ClipTokens(
        tuple(tokens.spatial[0].tolist()),
        tuple(tokens.temporal[0].tolist()),
        start_s,
        start_s + 0.5,
    )


@pytest.mark.parametrize("kind", list(TOKENIZERS))
@given(
    caption=st.text(max_size=40),
    times=st.lists(st.integers(0, 10**7), max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_interleaved_sequences_give_back_what_was_packed(
    kind: str, caption: str, times: list[int]
) -> None:
    tokenizer = TOKENIZERS[kind]
    words = VideoWords.added_to(tokenizer, WORDS)
    assert words.first_id == SIZES[kind], "the model's own ids stay as they are"
    caption = caption.encode("utf-8", "ignore").decode()
    video = VideoText(caption, tuple(clip(seed, time / 1000) for seed, time in enumerate(times)))
    rounded = VideoText(
        caption,
        tuple(
            ClipTokens(c.spatial, c.temporal, round(c.start_s, 3), round(c.end_s, 3))
            for c in video.clips
        ),
    )
    assert words.unpack(tokenizer, words.pack(tokenizer, video)) == rounded


def test_long_videos_are_packed_in_pieces_of_whole_clips() -> None:
    tokenizer = byte_tokenizer()
    words = VideoWords.added_to(tokenizer, WORDS)
    video = VideoText("a dog runs", tuple(clip(seed, seed) for seed in range(7)))
    pieces = list(words.pack_all(tokenizer, video, max_length=48))
    assert len(pieces) > 2
    assert all(len(piece) <= 48 for piece in pieces)
    unpacked = [words.unpack(tokenizer, piece) for piece in pieces]
    assert tuple(c for piece in unpacked for c in piece.clips) == video.clips
    assert {piece.caption for piece in unpacked} == {"a dog runs"}
    with pytest.raises(SequenceError, match="max_length is 8"):
        list(words.pack_all(tokenizer, video, max_length=8))


@pytest.mark.parametrize("start_s", [-0.0, -0.0004, 1e-9, 86_400.1234])
def test_times_are_kept_to_the_millisecond(start_s: float) -> None:
    tokenizer = byte_tokenizer()
    words = VideoWords.added_to(tokenizer, WORDS)
    packed = words.pack(tokenizer, VideoText("", (clip(0, start_s),)))
    (found,) = words.unpack(tokenizer, packed).clips
    assert found.start_s == pytest.approx(start_s, abs=0.0005)


@pytest.mark.parametrize("start_s", [-1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(start_s: float) -> None:
    tokenizer = byte_tokenizer()
    words = VideoWords.added_to(tokenizer, WORDS)
    with pytest.raises(SequenceError, match="a clip cannot begin or end at"):
        words.pack(tokenizer, VideoText("", (clip(0, start_s),)))


def test_captions_cannot_smuggle_video_words_in() -> None:
    tokenizer = byte_tokenizer()
    words = VideoWords.added_to(tokenizer, WORDS)
    with pytest.raises(SequenceError, match="clean the caption first"):
        words.pack(tokenizer, VideoText("look <s3> here", ()))
    with pytest.raises(SequenceError, match="begins with <video>"):
        words.unpack(tokenizer, [1, 2, 3])
    packed = words.pack(tokenizer, VideoText("", (clip(0),)))
    wrong = [*packed[:-2], words.first_spatial, packed[-1]]
    with pytest.raises(SequenceError, match="temporal ids in"):
        words.unpack(tokenizer, wrong)


def test_adding_words_twice_finds_them_and_another_codebook_is_refused() -> None:
    tokenizer = byte_tokenizer()
    first = VideoWords.added_to(tokenizer, WORDS)
    assert VideoWords.added_to(tokenizer, WORDS) == first
    with pytest.raises(SequenceError, match="for another codebook"):
        VideoWords.added_to(tokenizer, SequenceVocabulary(31, 20, 3, 4, 2))


@pytest.mark.parametrize("tied", [True, False])
def test_codes_begin_as_the_language_model_s_own_words(tied: bool) -> None:
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    size = len(tokenizer)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    )
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    before = [table.weight.detach().clone() for table in tables]
    words = VideoWords.added_to(tokenizer, WORDS)
    lexicon = random_lexicon(num_spatial=30, num_temporal=20, word_dim=4)
    extend_embeddings(model, tokenizer, words, lexicon)
    tables = (model.get_input_embeddings(), model.get_output_embeddings())
    for table, old in zip(tables, before, strict=True):
        assert table.weight.shape[0] == size + words.num_words
        torch.testing.assert_close(table.weight[:size], old)
        pieces = tokenizer.encode(f" {lexicon.spatial.words[7]}", add_special_tokens=False)
        torch.testing.assert_close(table.weight[words.first_spatial + 7], old[pieces].mean(0))
        pieces = tokenizer.encode(f" {lexicon.temporal.words[19]}", add_special_tokens=False)
        torch.testing.assert_close(table.weight[words.first_temporal + 19], old[pieces].mean(0))
    ids = words.pack(tokenizer, VideoText("a dog runs", (clip(1),)))
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), size + words.num_words)
    with pytest.raises(SequenceError, match="the lexicon has 30 spatial words, the codebook 31"):
        extend_embeddings(
            model,
            tokenizer,
            VideoWords(SequenceVocabulary(31, 20, 3, 4, 2), words.first_id),
            lexicon,
        )
