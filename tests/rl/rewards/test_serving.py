from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.rl.rewards.base import Reward, RewardItem
from deepgen.rl.rewards.registry import create_reward
from deepgen.rl.rewards.serving import RewardServer
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.questions import png_image
from deepgen.scoring.scorer import ScorerInput


class Red:
    """The red level, for images whose prompt, texts and details all say so."""

    name = "red"
    bounds = (0.0, 1.0)
    identity: Mapping[str, str] = {"red": "1"}

    def score(self, inputs: Sequence[ScorerInput]) -> list[Answer[float]]:
        return [self._score(each) for each in inputs]

    def _score(self, each: ScorerInput) -> Answer[float]:
        if (each.prompt, each.target_texts, each.details) != ("红", ("R",), {"scene": 1}):
            return Answer(status=AnswerStatus.ERROR, reason="not red")
        red, *_ = each.image.getpixel((0, 0))  # type: ignore[misc]
        return Answer(status=AnswerStatus.SCORED, value=red / 255)


@contextmanager
def running(reward: Reward) -> Iterator[RewardServer]:
    server = RewardServer(reward)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def item(red: int, prompt: str = "红") -> RewardItem:
    image = Image.new("RGB", (4, 4), (red, 0, 0))
    return RewardItem(image=image, prompt=prompt, target_texts=("R",), details={"scene": 1})


def post(server: RewardServer, body: bytes, path: str = "/score") -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{server.url}{path}", data=body)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_served_reward_gives_what_the_local_one_does() -> None:
    items = [item(0), item(51), item(255), item(255, prompt="green")]
    with running(Reward(name="red", scorer=Red(), needs="scene")) as server:
        remote = create_reward("served", kind="remote", url=server.url, bounds=(0.0, 1.0))
        answers = remote.scorer.score(items)
    assert [each.value for each in answers] == [0.0, 0.2, 1.0, None]
    assert answers[3].reason == "not red"
    assert remote.name == "served"
    assert "red 1" in remote.identity["worker"]
    assert "needs scene" in remote.identity["worker"]


def test_one_image_that_cannot_be_read_has_an_error_of_its_own() -> None:
    good = base64.b64encode(png_image(item(255).image).data).decode()
    rows = [
        {"id": "a", "prompt": "红", "target_texts": ["R"], "details": {"scene": 1}, "image": good},
        {"id": "b", "prompt": "红", "image": "no base64!"},
        {"id": "c", "prompt": "红", "image": base64.b64encode(b"no image").decode()},
        {"id": "d", "prompt": "红", "target_texts": "R", "image": good},
    ]
    with running(Reward(name="red", scorer=Red())) as server:
        status, answer = post(server, json.dumps({"items": rows}).encode())
    assert status == 200
    assert [(each["id"], each["value"]) for each in answer["scores"]] == [
        ("a", 1.0),
        ("b", None),
        ("c", None),
        ("d", None),
    ]
    assert "base64 of a PNG or JPEG" in answer["scores"][1]["error"]
    assert "is text, expected an image" in answer["scores"][2]["error"]
    assert "list of strings" in answer["scores"][3]["error"]


def test_requests_of_another_kind_are_refused_and_the_server_goes_on() -> None:
    with running(Reward(name="red", scorer=Red())) as server:
        assert post(server, b"\x80\x04pickle")[0] == 400
        assert post(server, b"[]") == (400, {"error": "expected a JSON object"})
        assert post(server, b'{"items": 3}')[0] == 400
        assert post(server, b"{}", "/other")[0] == 404
        assert post(server, b'{"items": []}') == (200, {"scores": []})


def test_a_pairwise_reward_is_not_served() -> None:
    with pytest.raises(ScorerError, match="compares the images of a group"):
        RewardServer(Reward(name="preference", scorer=Red(), is_pairwise=True))


def test_a_port_in_use_is_one_line() -> None:
    with running(Reward(name="red", scorer=Red())) as server:
        port = int(server.server_address[1])
        with pytest.raises(ScorerError, match=rf"cannot listen at 127.0.0.1:{port} .*--port"):
            RewardServer(Reward(name="red", scorer=Red()), port=port)
