"""Language models as readers: prompts, a tiny real causal model, a real server with faults."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from pipeline.errors import PipelineError, TransientError
from pipeline.recognition.config import RecognizeConfig
from pipeline.recognition.endpoint import ChatClient, EndpointConfig
from pipeline.recognition.episodes import Episode
from pipeline.recognition.label_scores import LabelScorer
from pipeline.recognition.local_model import LocalModel, LocalModelConfig
from pipeline.recognition.prompts import PromptConfig, PromptWriter, class_of_answer
from pipeline.recognition.recognize import recognize
from pipeline.recognition.videos import LabellingConfig, Video
from pipeline.recognition.words import WordTable, WordTables
from tests.recognition_samples import COLOURS, ChatServer, chat_server, make_labelled_dataset

NAMES = ("red", "dark grey", "very very blue")


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama of random weights whose tokens are bytes, as `save_pretrained` writes it."""
    directory = tmp_path_factory.mktemp("language_model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, **{letter: number + 1 for number, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(directory)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # far from uniform: positions and order matter
    model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def scorer(model_directory: Path) -> LabelScorer:
    model = AutoModelForCausalLM.from_pretrained(model_directory).eval()
    return LabelScorer(model, PreTrainedTokenizerFast.from_pretrained(model_directory), 6)


def _slow_score(directory: Path, text: str, name: str) -> float:
    """ln p(name | text) from one plain forward pass over all of it."""
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    before, after = tokenizer(text)["input_ids"], tokenizer(f" {name}")["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([before + after])).logits[0].log_softmax(dim=-1)
    steps = range(len(before) - 1, len(before) + len(after) - 1)
    return sum(float(logits[step, token]) for step, token in zip(steps, after, strict=True))


def test_scores_are_those_of_plain_forward_passes(
    scorer: LabelScorer, model_directory: Path
) -> None:
    beginning = "a b => red\nc => dark grey\n"
    questions = ["tree stone =>", "x =>", "a long question about many things =>"]
    found = scorer.scores(beginning, questions, NAMES)
    expected = [
        [_slow_score(model_directory, beginning + question, name) for name in NAMES]
        for question in questions
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-4, atol=1e-3)


def test_scores_do_not_depend_on_the_batch(model_directory: Path) -> None:
    questions = [f"{'word ' * number}=>" for number in range(1, 8)]
    found = [
        LocalModel(LocalModelConfig(path=str(model_directory), batch_size=size)).scores(
            "a => red\n", questions, NAMES
        )
        for size in (1, 9, 100)
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found[0], found[2], rtol=1e-4, atol=1e-3)


def test_a_prompt_that_is_too_long_is_refused(scorer: LabelScorer) -> None:
    with pytest.raises(PipelineError, match="the model reads 4096; lower"):
        scorer.scores("word " * 1000, ["x =>"], NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "nowhere"}, r"nowhere: no model\.safetensors there"),
        ({"gguf_file": "model.gguf"}, r"no model\.gguf there"),
    ],
)
def test_models_that_are_not_there(
    model_directory: Path, changes: dict[str, str], message: str
) -> None:
    config = LocalModelConfig.from_mapping({"path": str(model_directory)} | changes)
    with pytest.raises(PipelineError, match=message):
        LocalModel(config)


def test_what_is_no_model_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nothing_known"}')
    with pytest.raises(PipelineError, match="transformers cannot load"):
        LocalModel(LocalModelConfig(path=str(tmp_path))).scores("a", ["b"], ["c"])


def _writer(config: PromptConfig) -> PromptWriter:
    spatial = WordTable(("sky", "tree", "stone"), np.array([0.0, 1, 2]), *[np.eye(3)] * 2)
    temporal = WordTable(("run", "walk"), np.array([1.0, 2]), *[np.eye(2)] * 2)
    videos = [
        Video(np.array([0, 0, 1]), np.array([0])),
        Video(np.array([0, 2, 1]), np.array([1, 0])),
        Video(np.array([2]), np.array([], np.int64)),
    ]
    labelling = LabellingConfig(column="label", spoken={"dance_a": "dance"})
    return PromptWriter(videos, WordTables(spatial, temporal), config, labelling)


def test_prompts_say_the_most_telling_words_in_the_drawn_order() -> None:
    episode = Episode(
        ("dance_a", "get_up"), np.array([[0], [1]]), np.array([[2], [1]]), np.array([1, 0])
    )
    config = PromptConfig(max_spatial_words=2, max_temporal_words=1, instruction="Of {classes}:")
    prompt = _writer(config).write(episode)
    assert prompt.beginning == (
        "Of dance, get up:\nstone tree walk => get up\ntree sky run => dance\n"
    )
    assert prompt.questions == ("stone =>", "stone tree walk =>")
    assert prompt.names == ("dance", "get up")
    assert prompt.nothing == "nothing =>"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("red", 0),
        ("  **Red.**\n", 0),
        ("The class is dark grey.", 2),
        ("grey", 1),
        ("It is grey, not red", None),
        ("red\nbecause grey would be darker", 0),
        ("infrared", None),
        ("", None),
    ],
)
def test_answers_are_read_back(text: str, number: int | None) -> None:
    assert class_of_answer(text, ("red", "grey", "dark grey")) == number


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server(lambda text: text.partition(" ")[0]) as running:
        yield running


def _client(server: ChatServer, **changes: Any) -> ChatClient:
    values = {"base_url": server.base_url, "model": "tiny", "backoff_s": 0.0, "timeout_s": 5.0}
    return ChatClient(EndpointConfig.from_mapping(values | changes))


def test_a_chat_and_its_key(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_KEY", "very-secret-key")
    assert _client(server, key_variable="CHAT_KEY").ask("hello there") == "hello"
    monkeypatch.delenv("CHAT_KEY")
    assert _client(server, key_variable="CHAT_KEY").ask("good day") == "good"
    (with_key, body), (without, _) = server.requests
    assert with_key["Authorization"] == "Bearer very-secret-key"
    assert "Authorization" not in without
    assert body["model"] == "tiny"
    assert body["messages"] == [{"role": "user", "content": "hello there"}]
    assert body["temperature"] == 0


def test_what_may_pass_is_asked_again(server: ChatServer) -> None:
    server.faults += [(503, {}, b"busy"), (0, {}, b""), (429, {"Retry-After": "0.3"}, b"slower")]
    began = time.monotonic()
    assert _client(server).ask("hello there") == "hello"
    assert len(server.requests) == 4
    assert time.monotonic() - began >= 0.3  # the server's own wish, with no back-off of ours


def test_what_does_not_pass_stops_the_run(server: ChatServer) -> None:
    server.faults += [(503, {}, b"busy")] * 3
    with pytest.raises(TransientError, match="status 503, 3 times"):
        _client(server, attempts=3).ask("hello there")
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((401, {}, b'{"error": "bad key very-secret-key"}'), "set OPENAI_API_KEY"),
        ((400, {}, b"context length exceeded"), "context length exceeded; .* too long"),
        ((307, {"Location": "http://127.0.0.1:9/v1"}, b""), "status 307"),
        ((200, {}, b"<html>hello</html>"), "not an answer of an OpenAI-compatible chat"),
        ((200, {}, b'{"choices": [{"message": {"content": null}}]}'), "not an answer"),
    ],
)
def test_refusals_are_one_clear_error_without_the_key(
    server: ChatServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: tuple[int, dict[str, str], bytes],
    message: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret-key")
    server.faults.append(fault)
    with pytest.raises(PipelineError, match=message) as found:
        _client(server).ask("hello there")
    assert len(server.requests) == 1
    assert "very-secret-key" not in str(found.value)


def test_a_server_that_is_silent_is_given_up(server: ChatServer) -> None:
    def slow(text: str) -> str:
        time.sleep(1.0)
        return text

    server.answer = slow
    with pytest.raises(TransientError, match=r"no answer .*timed out.*timeout_s 0.2"):
        _client(server, attempts=2, timeout_s=0.2).ask("hello there")


def test_language_models_beside_baselines(
    server: ChatServer, model_directory: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    """The server is a reader that counts the words that question and examples share."""
    server.answer = _most_shared_words
    dataset = make_labelled_dataset(tmp_path / "tokens", tokenizer_directory)
    values = {
        "dataset": {"uri": dataset},
        "labellings": [{"column": "colour"}],
        "episodes": {"num_ways": 3, "shots": [2], "num_episodes": 20},
        "readers": [
            {"kind": "bag_of_words"},
            {"kind": "local_model", "path": str(model_directory)},
            {"kind": "endpoint", "base_url": server.base_url, "model": "counting"},
        ],
        "output": str(tmp_path / "out"),
    }
    config = RecognizeConfig.from_mapping(values)
    found = recognize(config)
    bag, local, endpoint = found.result["labellings"][0]["readers"]
    assert bag["shots"][0]["mean"] > 0.9
    assert endpoint["shots"][0]["verdict"] == "above chance"
    assert local["shots"][0]["verdict"] != "above chance"  # its weights are random
    assert len(local["facts"]["sha256"]) == 64
    assert endpoint["example"].splitlines()[-1].startswith("Answer with one of these")
    asked = len(server.requests)
    assert asked == 20 * 3
    assert recognize(config).result == json.loads(json.dumps(found.result))
    assert len(server.requests) == asked  # nothing is asked twice


def _most_shared_words(text: str) -> str:
    lines = [line.partition(" =>") for line in text.splitlines()[1:] if " =>" in line]
    *examples, (question, _, _) = lines
    best = max(examples, key=lambda line: _shared(line[0], question))
    assert best[2].strip() in COLOURS
    return best[2].strip()


def _shared(words: str, question: str) -> int:
    return len(set(words.split()) & set(question.split()))
