"""A reward as a server, as ``scoring/remote.py`` asks it: JSON over HTTP, never a pickle."""

from __future__ import annotations

import base64
import binascii
import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deepgen import __version__
from deepgen.errors import ImageError, ScorerError
from deepgen.images.io import decode_image
from deepgen.reading import parse_json
from deepgen.rl.rewards.base import Reward, RewardItem
from deepgen.scoring.answers import Answer, AnswerStatus, error_answer
from deepgen.scoring.scorer import score_images

LARGEST_REQUEST = 256 * 1024 * 1024
"""Bytes: a group of 8 images of 1024 x 1024 pixels takes about a tenth."""

READ_SECONDS = 60.0
"""For a client that stops in the middle of its request."""


class RewardServer(ThreadingHTTPServer):
    """Answers ``GET /version`` and ``POST /score``; ``serve_forever`` runs it.

    Args:
        reward: Pointwise, since a client may split a group into several requests.
        host: Where it listens; port 0 takes a free one.

    Raises:
        ScorerError: The reward is pairwise, or the address cannot be used.
    """

    daemon_threads = True

    def __init__(self, reward: Reward, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if reward.is_pairwise:
            raise ScorerError(
                f"the reward {reward.name} compares the images of a group, so it cannot be served; "
                "a preference is behind an endpoint already, that of its judge"
            )
        self.reward = reward
        # As many requests at a time as the reward takes; the others wait.
        self.slots = threading.BoundedSemaphore(reward.concurrency)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise ScorerError(
                f"cannot listen at {host}:{port} ({error}); choose another --host or --port"
            ) from None

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"

    def version(self) -> dict[str, Any]:
        """What the reward is."""
        low, high = self.reward.bounds
        about = {"needs": self.reward.needs, "bounds": f"{low:g} to {high:g}"}
        return {
            "name": self.reward.name,
            "deepgen": __version__,
            **about,
            **self.reward.identity,
        }

    def score(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The scores of a request's items; an item that cannot be read has an error of its own.

        Raises:
            ValueError: There is no list of items.
        """
        rows = body.get("items")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ValueError('expected an object with "items", a list of objects')
        found: list[RewardItem | Answer[float]] = [_item(row) for row in rows]
        items = [each for each in found if isinstance(each, RewardItem)]
        answers = iter(self._answers(items))
        scores = []
        for row, each in zip(rows, found, strict=True):
            answer = next(answers) if isinstance(each, RewardItem) else each
            is_scored = answer.status is AnswerStatus.SCORED
            reason = "" if is_scored else answer.reason or answer.status.value
            scores.append({"id": row.get("id"), "value": answer.value, "error": reason})
        return {"scores": scores}

    def _answers(self, items: Sequence[RewardItem]) -> list[Answer[float]]:
        if not items:
            return []
        try:
            with self.slots:
                return score_images(self.reward.scorer, items)
        except Exception as error:  # One bad request must not end the server.
            return [error_answer(error, self.reward.name) for _ in items]


def _item(row: Mapping[str, Any]) -> RewardItem | Answer[float]:
    """An item of a request, or why it is none."""
    texts, details = row.get("target_texts") or [], row.get("details") or {}
    prompt = row.get("prompt", "")
    if not isinstance(details, dict) or not isinstance(prompt, str):
        return _unusable("prompt must be a string and details an object")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return _unusable("target_texts must be a list of strings")
    try:
        data = base64.b64decode(row["image"], validate=True)
        image = decode_image(data)
    except (KeyError, TypeError, binascii.Error):
        return _unusable("image must be the base64 of a PNG or JPEG file")
    except ImageError as error:
        return _unusable(str(error))
    return RewardItem(image=image, prompt=prompt, target_texts=tuple(texts), details=details)


def _unusable(reason: str) -> Answer[float]:
    return Answer(status=AnswerStatus.ERROR, reason=reason)


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    timeout = READ_SECONDS

    def do_GET(self) -> None:
        """Describe the reward."""
        if self.path == "/version":
            self._send(200, self.server.version())
        else:
            self._send(404, {"error": "there are GET /version and POST /score"})

    def do_POST(self) -> None:
        """Score images."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/score":
            self._send(404, {"error": "there are GET /version and POST /score"})
        elif not length.isdecimal() or int(length) > LARGEST_REQUEST:
            reason = f"Content-Length must be at most {LARGEST_REQUEST:,}, got {length or 'none'}"
            self._send(413, {"error": reason})
        else:
            try:
                body = parse_json(self.rfile.read(int(length)))
                if not isinstance(body, dict):
                    raise ValueError("expected a JSON object")
                answer = self.server.score(body)
            except ValueError as error:
                self._send(400, {"error": str(error)})
            else:
                self._send(200, answer)

    def _send(self, status: int, body: Mapping[str, Any]) -> None:
        data = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True  # Whoever asked has given up.

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: clients count and report."""
