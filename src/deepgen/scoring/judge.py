"""A vision-language model as a judge, behind any OpenAI-compatible server."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from PIL import Image

from deepgen.config.checks import check_at_least
from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus, Parse, Unreadable
from deepgen.scoring.http import (
    CircuitBreaker,
    HttpError,
    ServerConfig,
    checked_url,
    describe,
    request_json,
    with_retries,
)
from deepgen.scoring.parsing import after_thinking
from deepgen.scoring.questions import Question, png_image, sha256_of_json
from deepgen.scoring.reply_cache import FinishReason, Reply, ReplyCache

T = TypeVar("T")

# Names of providers' filters, as finish reasons and as error codes.
FILTERED = frozenset(
    {
        "blocklist",
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "flagged_input",
        "image_safety",
        "moderation_blocked",
        "prohibited_content",
        "responsibleaipolicyviolation",
        "safety",
    }
)

# How judges decline in prose; only checked in replies that could not be parsed.
DECLINED = re.compile(
    r"\s*(?:(?:i am|i['’]m|sorry|i apologi[sz]e|unfortunately)\b.{0,80}?)?"
    r"\b(?:i )?(?:can(?:['’]t|not)|(?:am )?unable to|not able to)\b.{0,40}?"
    r"\b(?:assist|help|comply|evaluate|assess|analy[sz]e|judge|rate|process|provide|discuss)\b",
    re.IGNORECASE | re.DOTALL,
)

PROBE = (
    "Which colour fills this image? Answer with one word: red, green or blue. "
    "If you see no image, answer: none."
)
PROBE_COLORS = {"red": (230, 20, 20), "green": (20, 160, 40), "blue": (20, 40, 220)}


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeConfig(ServerConfig):
    """A judge; the URL of its server is up to and without ``/chat/completions``."""

    model: str
    """Name of the model on the server; a dated snapshot where there is one."""
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0})
    """Sent unchanged: temperature, seed, ``response_format`` with a JSON schema,
    ``chat_template_kwargs`` that switch thinking, and so on."""
    max_tokens: tuple[int, ...] = (4096,)
    """Limits of a reply: the next one applies after a truncated reply. Empty sends none."""
    concurrency: int = 16
    timeout_seconds: float = 90.0
    request_attempts: int = 4
    reply_attempts: int = 4
    """Replies requested while they cannot be parsed."""
    retry_parameters: Mapping[str, Any] = field(default_factory=dict)
    """In addition to or instead of ``parameters`` after a reply that could not be parsed: at
    temperature 0 some servers give the same reply again."""
    api_key_variable: str = "DEEPGEN_JUDGE_KEY"
    """Environment variable with the API key, if the judge needs one."""

    def __post_init__(self) -> None:
        ServerConfig.__post_init__(self)
        check_at_least("reply_attempts", self.reply_attempts, 1)
        clashing = {"model", "messages", "max_tokens"} & {*self.parameters, *self.retry_parameters}
        if clashing:
            raise ValueError(f"{', '.join(sorted(clashing))} cannot be among the parameters")


@runtime_checkable
class Judge(Protocol):
    """Answers questions about images."""

    @property
    def name(self) -> str:
        """The name recorded with results."""
        ...

    def ask(self, question: Question, parse: Parse[T]) -> Answer[T]:
        """Ask one question; callable from several threads."""
        ...


class HttpJudge:
    """A judge behind a chat-completions endpoint; every reply is cached, if there is a cache.

    A reply that cannot be parsed is requested again, under another key, a bounded number of times.
    Failures are refused, unreadable or error.
    """

    def __init__(self, config: JudgeConfig, cache: ReplyCache | None) -> None:
        self.config = config
        self.cache = cache
        self._slots = threading.BoundedSemaphore(config.concurrency)
        self._lock = threading.Lock()
        self._breaker = CircuitBreaker()
        self._served_model = ""

    @property
    def name(self) -> str:
        """The model as the server names it, once there was a reply."""
        return self._served_model or self.config.model

    def ask(self, question: Question, parse: Parse[T]) -> Answer[T]:
        """Ask one question, or return its cached reply.

        Raises:
            ScorerError: No request can succeed: the server is down, needs another key, does not
                have the model, or serves another model than before.
        """
        reply: Reply | None = None
        reason = ""
        for attempt in range(self.config.reply_attempts):
            try:
                reply = self._reply(question, attempt)
            except HttpError as failure:
                status, reason = AnswerStatus.ERROR, describe(failure)
                return _answer(question, reply, attempt, status=status, reason=reason)
            if reply.finish_reason is FinishReason.REFUSED:
                status, reason = AnswerStatus.REFUSED, "the provider's filter refused"
                return _answer(question, reply, attempt + 1, status=status, reason=reason)
            if reply.finish_reason is FinishReason.TRUNCATED:
                reason = "the reply was truncated by the limit of tokens"
                continue
            parsed = parse(reply.text)
            if not isinstance(parsed, Unreadable):
                status = AnswerStatus.SCORED
                return _answer(question, reply, attempt + 1, status=status, value=parsed)
            reason = parsed.reason
        declined = reply is not None and DECLINED.match(reply.text) is not None
        status = AnswerStatus.REFUSED if declined else AnswerStatus.UNREADABLE
        return _answer(question, reply, self.config.reply_attempts, status=status, reason=reason)

    def check(self) -> None:
        """Check, in at most four requests, that the judge answers and takes images.

        Raises:
            ScorerError: It does not; the message says what to fix.
        """
        for color, rgb in PROBE_COLORS.items():
            image = png_image(Image.new("RGB", (64, 64), rgb))
            try:
                body = self._post(Question(parts=(image, PROBE)), self._longest)
            except HttpError as failure:
                raise self._check_failed(failure) from None
            text = after_thinking(_reply_text(body))
            named = [each for each in PROBE_COLORS if each in text.lower()]
            if named != [color]:
                raise ScorerError(
                    f"the judge {self.config.model} does not see images: shown plain {color}, it "
                    f"said {text.strip()[:60]!r}; choose a model with image input"
                )

    def _check_failed(self, failure: HttpError) -> ScorerError:
        if failure.status is not None:
            # Servers report this in many ways; the same question without an image tells.
            try:
                self._post(Question(parts=(PROBE,)), self._longest)
            except HttpError:
                pass
            else:
                return ScorerError(
                    f"the judge {self.config.model} takes text but no images "
                    f"({describe(failure)}); choose a model with image input"
                )
        return self._unavailable(failure)

    def _reply(self, question: Question, attempt: int) -> Reply:
        key = self._key(question, attempt)
        found = self._cached(key)
        if found is not None and self._is_final(found, question, attempt):
            self._pin(found)
            return found
        start = time.monotonic()
        try:
            body = self._post(question, attempt)
        except HttpError as failure:
            if not _is_filter(failure):
                self._count_failure(failure)
                raise
            body = {"error": failure.body}
        self._breaker.succeeded()
        reply = Reply(
            key=key,
            judge=self.config.model,
            model=str(body.get("model") or self.config.model),
            prompt_hash=question.prompt_hash,
            attempt=attempt,
            finish_reason=_finish_reason(body),
            text=_reply_text(body),
            body=body,
            seconds=time.monotonic() - start,
        )
        if self.cache is not None:
            self.cache.add(reply)
        self._pin(reply)
        return reply

    def _cached(self, key: str) -> Reply | None:
        return None if self.cache is None else self.cache.find(key)

    def _is_final(self, found: Reply, question: Question, attempt: int) -> bool:
        """Whether a cached reply need not be requested again."""
        if found.finish_reason is FinishReason.COMPLETE:
            return True
        # A truncated reply was followed by another attempt if that is cached too.
        followed = self._cached(self._key(question, attempt + 1)) is not None
        return found.finish_reason is FinishReason.TRUNCATED and followed

    def _key(self, question: Question, attempt: int) -> str:
        asked = {
            "model": self.config.model,
            "messages": question.fingerprint(),
            "parameters": self._parameters(attempt),
            "attempt": attempt,
        }
        return sha256_of_json(asked)

    def _parameters(self, attempt: int) -> dict[str, Any]:
        limits = self.config.max_tokens
        limit = {"max_tokens": limits[min(attempt, len(limits) - 1)]} if limits else {}
        changes = self.config.retry_parameters if attempt else {}
        return {**self.config.parameters, **changes, **limit}

    @property
    def _longest(self) -> int:
        """The attempt with the largest limit of tokens, as thinking needs it."""
        return max(len(self.config.max_tokens) - 1, 0)

    def _post(self, question: Question, attempt: int) -> dict[str, Any]:
        body = {
            "model": self.config.model,
            "messages": question.messages(),
            **self._parameters(attempt),
        }

        def once() -> dict[str, Any]:
            with self._slots:
                answer = request_json(
                    f"{checked_url(self.config.base_url)}/chat/completions",
                    body,
                    timeout_seconds=self.config.timeout_seconds,
                    bearer=os.environ.get(self.config.api_key_variable, ""),
                )
            if not _is_completion(answer):
                raise HttpError(f"the answer is not a chat completion: {str(answer)[:200]}")
            return answer

        return with_retries(
            once,
            attempts=self.config.request_attempts,
            backoff_seconds=self.config.backoff_seconds,
        )

    def _pin(self, reply: Reply) -> None:
        """Stop if a name turns out to mean two models: their scores cannot be mixed."""
        if "choices" not in reply.body:  # A refused request does not state the model.
            return
        with self._lock:
            self._served_model = self._served_model or reply.model
            if reply.model != self._served_model:
                raise ScorerError(
                    f"{self.config.model} was {self._served_model} and is {reply.model}; give the "
                    "full name of one of them, or score again with an empty reply cache"
                )

    def _count_failure(self, failure: HttpError) -> None:
        if failure.status in (401, 403, 404):
            raise self._unavailable(failure)
        if self._breaker.failed():
            if not failure.temporary:
                self.check()  # Perhaps it takes no images; then this raises.
            raise self._unavailable(failure)

    def _unavailable(self, failure: HttpError) -> ScorerError:
        url = self.config.base_url
        if failure.status in (401, 403):
            variable = self.config.api_key_variable
            state = "its key was refused" if os.environ.get(variable) else "it is not set"
            return ScorerError(
                f"the judge at {url} needs a key ({describe(failure)}); it is read from the "
                f"environment variable {variable}, and {state}"
            )
        if failure.status == 404:
            return ScorerError(
                f"the judge at {url} does not know {self.config.model} ({describe(failure)}); "
                "check the model's name, and that the address ends where /chat/completions follows"
            )
        if not failure.temporary:
            return ScorerError(
                f"the judge at {url} refuses every question ({describe(failure)}); correct its "
                "parameters"
            )
        return ScorerError(
            f"no judge answers at {url} ({describe(failure)}); start the server or "
            "correct the address"
        )


def _answer(question: Question, reply: Reply | None, replies: int, **result: Any) -> Answer[Any]:
    last: dict[str, Any] = {}
    if reply is not None:
        last = {"reply": reply.text, "key": reply.key, "model": reply.model}
    return Answer(prompt_hash=question.prompt_hash, replies=replies, **last, **result)


def _is_completion(body: Mapping[str, Any]) -> bool:
    choices = body.get("choices")
    if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
        return False
    message = choices[0].get("message")
    # Filters may omit the message.
    return isinstance(message, dict) or _is_filtered(choices[0])


def _is_filtered(choice: Mapping[str, Any]) -> bool:
    return str(choice.get("finish_reason")).lower() in FILTERED


def _is_filter(failure: HttpError) -> bool:
    """Whether a request was refused for its content."""
    words = set(re.findall(r"\w+", failure.body.lower()))
    # "safety" alone also occurs in harmless messages, and is not an error code.
    return failure.status in (400, 403) and bool(words & (FILTERED - {"safety"}))


def _finish_reason(body: Mapping[str, Any]) -> FinishReason:
    if "error" in body and "choices" not in body:
        return FinishReason.REFUSED
    choice = body["choices"][0]
    if _is_filtered(choice) or choice["message"].get("refusal"):
        return FinishReason.REFUSED
    return (
        FinishReason.TRUNCATED if choice.get("finish_reason") == "length" else FinishReason.COMPLETE
    )


def _reply_text(body: Mapping[str, Any]) -> str:
    if "choices" not in body:
        return str(body.get("error", ""))
    message = body["choices"][0].get("message") or {}
    content = message.get("content") or message.get("refusal") or ""
    if isinstance(content, list):  # Some servers answer in parts, as requests may.
        texts = [part.get("text", "") for part in content if isinstance(part, dict)]
        return "".join(str(text) for text in texts)
    return str(content)
