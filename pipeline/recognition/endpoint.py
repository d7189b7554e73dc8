"""A language model behind an OpenAI-compatible address: a hosted one, vLLM, llama.cpp, Ollama …

One chat request per question. What may pass (a refused connection, a timeout, "too many requests",
a server's own fault) is tried again; everything else stops the run with the server's words.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from typing import IO, Any, Literal

import pydantic

from pipeline.errors import PipelineError, TransientError
from pipeline.recognition.episodes import Episode
from pipeline.recognition.prompts import Prompt, PromptConfig, PromptWriter, class_of_answer
from pipeline.recognition.videos import LabellingConfig
from pipeline.records import stable_id
from sweettok.strict_config import StrictConfig
from sweettok.uri_secrets import redacted

logger = logging.getLogger(__name__)

_MAY_PASS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MAX_ANSWER_BYTES = 2**20
_MAX_SHOWN_CHARACTERS = 300
_MAX_WAIT_S = 60.0
_REMEDIES = {
    400: "the server does not understand the request: is the prompt too long for the model?",
    401: "the server does not take the key: set {key}",
    403: "the server does not let this key use the model",
    404: "is base_url right (it ends in /v1 mostly), and does the server have this model?",
}


class EndpointConfig(StrictConfig):
    """A language model behind an address, asked by chat.

    Attributes:
        kind: "endpoint".
        base_url: What "/chat/completions" is put behind, such as "http://localhost:8000/v1".
        model: The model's name there.
        key_variable: The environment variable that holds the key; without a value none is sent.
        name: What the table calls it; null takes the model's name.
        prompt: How videos become text.
        timeout_s: How long one answer may take, in seconds.
        attempts: How often a question is asked before the run stops.
        backoff_s: Wait before the second attempt, in seconds; doubles each time. A server that
            says how long to wait is waited for, up to a minute.
        concurrency: Questions of one episode that are asked at the same time.
        max_answer_tokens: Longest answer.
        version: Names the model's weights where `model` does not; answers are found again under
            the same one only.
    """

    kind: Literal["endpoint"] = "endpoint"
    base_url: str = pydantic.Field(pattern=r"^https?://[^\s/]+")
    model: str = pydantic.Field(min_length=1)
    key_variable: str = "OPENAI_API_KEY"
    name: str | None = pydantic.Field(default=None, min_length=1)
    prompt: PromptConfig = PromptConfig()
    timeout_s: float = pydantic.Field(default=60.0, gt=0)
    attempts: int = pydantic.Field(default=5, ge=1)
    backoff_s: float = pydantic.Field(default=1.0, ge=0)
    concurrency: int = pydantic.Field(default=4, ge=1)
    max_answer_tokens: int = pydantic.Field(default=16, ge=1)
    version: str | None = None

    @property
    def label(self) -> str:
        """What the table calls it."""
        return self.name or self.model


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A key is sent to the address that was named and to no other one."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        """Refuses, so that the redirect is an error with its code."""


class ChatClient:
    """Asks one model."""

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._url = config.base_url.rstrip("/") + "/chat/completions"
        self._opener = urllib.request.build_opener(_NoRedirects)

    def ask(self, text: str) -> str:
        """The model's answer.

        Raises:
            TransientError: It could not be had in as many attempts as there are.
            PipelineError: The server refuses, or what it says is no answer.
        """
        config = self._config
        for attempt in range(1, config.attempts + 1):
            try:
                return _answer_of(self._post(text), self._url)
            except _MayPassError as error:
                if attempt == config.attempts:
                    raise TransientError(
                        f"{self._url}: {error}, {attempt} times; is the server up and fast enough "
                        f"(timeout_s {config.timeout_s:g}, concurrency {config.concurrency})? The "
                        "same command continues"
                    ) from error
                wait_s = max(config.backoff_s * 2 ** (attempt - 1), error.wait_s)
                logger.info("%s: %s, asking again in %.1f s", self._url, error, wait_s)
                time.sleep(min(wait_s, _MAX_WAIT_S))
        raise AssertionError("attempts is at least 1")

    def _post(self, text: str) -> bytes:
        config = self._config
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": config.max_answer_tokens,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(config.key_variable, ""):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=config.timeout_s) as response:
                content: bytes = response.read(_MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise self._refusal(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise _MayPassError(f"no answer ({_reason(error)})") from error
        if len(content) > _MAX_ANSWER_BYTES:
            raise PipelineError(f"{self._url}: an answer of more than {_MAX_ANSWER_BYTES} bytes")
        return content

    def _refusal(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            said = " ".join(error.read(_MAX_ANSWER_BYTES).decode("utf-8", "replace").split())
        if error.code in _MAY_PASS:
            return _MayPassError(f"status {error.code}", _retry_after_s(error.headers))
        remedy = _REMEDIES.get(error.code, "is base_url an OpenAI-compatible address?")
        remedy = remedy.format(key=self._config.key_variable)
        shown = redacted(said[:_MAX_SHOWN_CHARACTERS])
        return PipelineError(f"{self._url}: status {error.code}: {shown or 'no words'}; {remedy}")


class EndpointReader:
    """Answers with the class that a model behind an address names.

    Args:
        config: Which model.
        writer: Writes the prompts.
        labelling: What is asked.
    """

    def __init__(
        self, config: EndpointConfig, writer: PromptWriter, labelling: LabellingConfig
    ) -> None:
        self._client, self._writer = ChatClient(config), writer
        self._concurrency = config.concurrency
        self.identity = stable_id(
            "endpoint",
            config.base_url,
            config.model,
            config.version,
            config.prompt.to_yaml(),
            config.max_answer_tokens,
            sorted(labelling.spoken.items()),
        )
        self.facts: Mapping[str, Any] = {
            "model": config.model,
            "base_url": config.base_url,
            "version": config.version,
        }

    def answer(self, episode: Episode) -> list[int | None]:
        """The class that the model names; None where it names none.

        Raises:
            PipelineError: See `ChatClient.ask`.
        """
        prompt = self._writer.write(episode)
        texts = [_message(prompt, number) for number in range(len(prompt.questions))]
        with ThreadPoolExecutor(min(self._concurrency, len(texts))) as pool:
            said = list(pool.map(self._client.ask, texts))
        return [class_of_answer(text, prompt.names) for text in said]

    def example(self, episode: Episode) -> str:
        """The message about the first question."""
        return _message(self._writer.write(episode), 0)


class _MayPassError(Exception):
    """A failure that another attempt may cure.

    Attributes:
        wait_s: How long the server asks to wait, in seconds.
    """

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def _message(prompt: Prompt, number: int) -> str:
    classes = ", ".join(prompt.names)
    return (
        f"{prompt.beginning}{prompt.questions[number]} ?\n\n"
        f"Answer with one of these and nothing else: {classes}"
    )


def _answer_of(content: bytes, url: str) -> str:
    try:
        answer = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        answer = None
    if not isinstance(answer, str):
        shown = redacted(content[:_MAX_SHOWN_CHARACTERS].decode("utf-8", "replace"))
        raise PipelineError(f"{url}: not an answer of an OpenAI-compatible chat: {shown!r}")
    return answer


def _retry_after_s(headers: Message) -> float:
    try:
        return max(0.0, float(headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0  # a date: our own wait will do


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
