"""Scorers in their own processes: detectors, VQA models and OCR that need an old environment.

A worker is any server with two endpoints::

    GET  /version  ->  {"name": ..., and versions of its libraries and weights}
    POST /score    {"items": [{"id", "prompt", "target_texts", "image"}, ...]}
                   ->  {"scores": [{"id", "value", "error"}, ...]}

Images are base64 of PNG or JPEG files. An item also has ``details``, an object, where its scorer
needs more. A value is any JSON: a number for a reward, boxes for a detector, a word for a question,
lines for recognised text; null is a failure, with its reason in ``error``. JSON only: a pickle
would let either side run code on the other.
"""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from deepgen.config.checks import check_at_least
from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus, Unreadable, parsed_answer
from deepgen.scoring.http import (
    CircuitBreaker,
    HttpError,
    ServerConfig,
    checked_url,
    describe,
    request_json,
    with_retries,
)
from deepgen.scoring.questions import png_image
from deepgen.scoring.scorer import ScorerInput
from deepgen.threads import bounded_map

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerConfig(ServerConfig):
    """A worker, up to and without ``/score``; concurrency is the number of its processes."""

    batch_size: int = 8
    """Images per request."""

    def __post_init__(self) -> None:
        ServerConfig.__post_init__(self)
        check_at_least("batch_size", self.batch_size, 1)


class Worker:
    """A scorer behind HTTP; may be used from many threads."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._breaker = CircuitBreaker()

    def version(self) -> dict[str, Any]:
        """The worker's description of itself, which is part of every result.

        Raises:
            ScorerError: There is no response, or it states no name.
        """
        try:
            answer = self._request("/version", None)
        except HttpError as failure:
            raise self._unavailable(failure) from None
        if not isinstance(answer.get("name"), str) or not answer["name"]:
            raise ScorerError(
                f"the worker at {self.config.base_url} does not state its name; /version must "
                'answer with an object such as {"name": "mmdet2", "weights": "sha256 of the file"}'
            )
        return answer

    def score(
        self, inputs: Sequence[ScorerInput], read: Callable[[Any], T | Unreadable]
    ) -> list[Answer[T]]:
        """Score images, in batches; answers come in the order of the inputs.

        ``read`` converts a JSON value and never raises.

        Raises:
            ScorerError: The worker is down.
        """
        # Several questions may be about one image.
        images = {id(each.image): each.image for each in inputs}
        encoded = {
            key: base64.b64encode(png_image(image).data).decode("ascii")
            for key, image in images.items()
        }
        items = [
            {
                "id": str(number),
                "prompt": each.prompt,
                "target_texts": list(each.target_texts),
                "image": encoded[id(each.image)],
                **({"details": dict(each.details)} if each.details else {}),
            }
            for number, each in enumerate(inputs)
        ]
        size = self.config.batch_size
        batches = [items[start : start + size] for start in range(0, len(items), size)]
        scored = bounded_map(
            lambda batch: self._score_batch(batch, read), batches, workers=self.config.concurrency
        )
        return [answer for answers in scored for answer in answers]

    def _score_batch(
        self, items: Sequence[dict[str, Any]], read: Callable[[Any], T | Unreadable]
    ) -> list[Answer[T]]:
        ids = [item["id"] for item in items]
        try:
            rows = _rows_by_id(self._request("/score", {"items": items}), set(ids))
        except HttpError as failure:
            if self._breaker.failed():
                raise self._unavailable(failure) from None
            return [Answer(status=AnswerStatus.ERROR, reason=describe(failure)) for _ in items]
        self._breaker.succeeded()
        return [_answer(rows[each], read) for each in ids]

    def _request(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        return with_retries(
            lambda: request_json(
                checked_url(self.config.base_url) + path,
                body,
                timeout_seconds=self.config.timeout_seconds,
            ),
            attempts=self.config.request_attempts,
            backoff_seconds=self.config.backoff_seconds,
        )

    def _unavailable(self, failure: HttpError) -> ScorerError:
        return ScorerError(
            f"the worker at {self.config.base_url} does not answer ({describe(failure)}); start it "
            "or correct the address"
        )


def describe_worker(version: Mapping[str, Any]) -> str:
    """A worker's name with the versions it states."""
    rest = ", ".join(f"{key} {version[key]}" for key in sorted(version) if key != "name")
    return f"{version['name']} ({rest})" if rest else str(version["name"])


class RemoteModel:
    """A model behind a worker, under the name that the worker gives itself.

    Raises:
        ScorerError: The worker does not answer.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.name = describe_worker(worker.version())

    def score_image(
        self,
        image: Image.Image,
        read: Callable[[Any], T | Unreadable],
        prompts: Sequence[str] = ("",),
    ) -> list[Answer[T]]:
        """One answer about an image per prompt."""
        inputs = [ScorerInput(image=image, prompt=prompt) for prompt in prompts]
        return self.worker.score(inputs, read)


class RemoteTextReader(RemoteModel):
    """Recognises text through a worker, such as one that runs the official OCR."""

    def read(self, image: Image.Image) -> Answer[list[str]]:
        """The recognised lines."""
        return self.score_image(image, read_lines)[0]


class RemoteScorer(RemoteModel):
    """A worker whose values are numbers; it sees images, prompts and target texts."""

    def __init__(self, worker: Worker, bounds: tuple[float, float]) -> None:
        super().__init__(worker)
        self.bounds = bounds

    @property
    def identity(self) -> Mapping[str, str]:
        """As the worker describes itself."""
        return {"worker": self.name}

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        """One number per image."""
        return self.worker.score(inputs, read_number)


def create_scorer(
    *, url: str, bounds: tuple[float, float] = (-math.inf, math.inf), concurrency: int = 1
) -> RemoteScorer:
    """The scorer behind an address.

    Raises:
        ScorerError: There is no response.
    """
    worker = Worker(WorkerConfig(base_url=url, concurrency=concurrency))
    return RemoteScorer(worker, bounds)


def read_number(value: Any) -> float | Unreadable:
    """Read a finite number, such as a reward."""
    # bool is a kind of int to Python; integers may be larger than any float; NaN fails to compare.
    if type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    return Unreadable(f"{str(value)[:60]} is not a finite number")


def read_lines(value: Any) -> list[str] | Unreadable:
    """Read a list of strings, such as recognised text."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return value
    return Unreadable(f"{str(value)[:60]} is not a list of lines")


def _rows_by_id(answer: dict[str, Any], ids: set[str]) -> dict[str, dict[str, Any]]:
    """The scores by id; an answer about other items than the requested ones is an error."""
    rows = answer.get("scores")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise HttpError("the answer has no list of scores")
    by_id = {str(row.get("id")): row for row in rows}
    if set(by_id) != ids or len(rows) != len(ids):
        raise HttpError(f"the answer is about {sorted(by_id)[:9]}, expected {sorted(ids)[:9]}")
    return by_id


def _answer(row: dict[str, Any], read: Callable[[Any], T | Unreadable]) -> Answer[T]:
    value = row.get("value")
    if value is None:
        return Answer(
            status=AnswerStatus.ERROR, reason=str(row.get("error") or "the worker gave no value")
        )
    return parsed_answer(read(value))
