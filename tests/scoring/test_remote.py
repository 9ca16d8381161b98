from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import AnswerStatus, Unreadable
from deepgen.scoring.http import GIVE_UP_AFTER
from deepgen.scoring.ocr import TextReader
from deepgen.scoring.remote import (
    RemoteTextReader,
    Worker,
    WorkerConfig,
    read_lines,
    read_number,
)
from deepgen.scoring.scorer import ScorerInput
from tests.scoring.servers import Heard, Said, Server, serve, unused_url

VERSION = {"name": "brightness-1", "weights": "none"}


def brightness(item: dict[str, Any]) -> float:
    image = Image.open(io.BytesIO(base64.b64decode(item["image"])))
    value = image.convert("L").getpixel((0, 0))
    assert isinstance(value, int)
    return float(value)


def worker_that(
    answer: Callable[[list[dict[str, Any]]], Any], version: Any = VERSION
) -> Callable[[Heard], Said]:
    def respond(heard: Heard) -> Said:
        if heard.path == "/version":
            return Said(version)
        assert heard.path == "/score"
        said = answer(heard.body["items"])
        return said if isinstance(said, Said) else Said({"scores": said})

    return respond


def truly(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": item["id"], "value": brightness(item)} for item in items]


def worker(server: Server | str, **changes: Any) -> Worker:
    url = server if isinstance(server, str) else server.url
    settings: dict[str, Any] = {"backoff_seconds": 0.001, "timeout_seconds": 5.0, **changes}
    return Worker(WorkerConfig(base_url=url, **settings))


def item(level: int) -> ScorerInput:
    image = Image.new("RGB", (8, 8), (level, level, level))
    return ScorerInput(image=image, prompt="grey", target_texts=("a", "b"))


ITEMS = [item(level) for level in range(0, 70, 10)]


def test_scores_come_in_the_order_of_the_items_whatever_the_worker_does() -> None:
    with serve(worker_that(lambda items: truly(items)[::-1])) as server:
        answers = worker(server, batch_size=3, concurrency=2).score(ITEMS, read_number)
    assert [answer.value for answer in answers] == [0, 10, 20, 30, 40, 50, 60]
    assert sorted(len(heard.body["items"]) for heard in server.heard) == [1, 3, 3]
    sent = server.heard[0].body["items"][0]
    assert (sent["prompt"], sent["target_texts"]) == ("grey", ["a", "b"])


def test_one_failed_item_leaves_the_others() -> None:
    def partly(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows = truly(items)
        rows[1] = {"id": rows[1]["id"], "value": None, "error": "out of memory"}
        rows[2]["value"] = "bright"
        rows[3]["value"] = float("nan")
        return rows

    with serve(worker_that(partly)) as server:
        answers = worker(server).score(ITEMS, read_number)
    assert [answer.value for answer in answers] == [0, None, None, None, 40, 50, 60]
    assert [answer.status for answer in answers[1:4]] == [
        AnswerStatus.ERROR,
        AnswerStatus.UNREADABLE,
        AnswerStatus.UNREADABLE,
    ]
    assert answers[1].reason == "out of memory"


@pytest.mark.parametrize(
    "said",
    [
        lambda items: truly(items)[1:],
        lambda items: [{**row, "id": f"{row['id']}0"} for row in truly(items)],
        lambda items: [*truly(items), {"id": "another", "value": 1}],
        lambda items: [*truly(items), *truly(items)[:1]],
        lambda items: {"0": 0},
        lambda items: Said({"detail": "bad request"}, status=422),
        lambda items: Said(b"\x80\x04pickle"),
    ],
)
def test_an_answer_about_other_items_scores_none(said: Any) -> None:
    with serve(worker_that(said)) as server:
        answers = worker(server, request_attempts=1).score(ITEMS, read_number)
    assert {answer.status for answer in answers} == {AnswerStatus.ERROR}
    assert all(answer.value is None and answer.reason for answer in answers)


def test_a_failed_request_is_sent_again() -> None:
    left = iter([Said({}, status=503), Said({}, drop=True)])
    with serve(worker_that(lambda items: next(left, None) or truly(items))) as server:
        answers = worker(server).score(ITEMS, read_number)
    assert [answer.value for answer in answers] == [0, 10, 20, 30, 40, 50, 60]
    assert len(server.heard) == 3


def test_a_worker_that_hangs_costs_its_batch_and_no_more() -> None:
    def respond(items: list[dict[str, Any]]) -> Any:
        hangs = 30.0 if items[0]["id"] == "0" else 0.0
        return Said({"scores": truly(items)}, hang_seconds=hangs)

    with serve(worker_that(respond)) as server:
        client = worker(server, batch_size=4, timeout_seconds=0.5, request_attempts=1)
        answers = client.score(ITEMS, read_number)
    assert [answer.value for answer in answers] == [None] * 4 + [40, 50, 60]
    assert answers[0].reason == "no answer in time"


def test_a_worker_that_is_down_stops_the_run() -> None:
    client = worker(unused_url(), request_attempts=1, batch_size=1)
    many = [item(level) for level in range(GIVE_UP_AFTER + 5)]
    with pytest.raises(ScorerError, match=r"the worker at .* does not answer .*start it"):
        client.score(many, read_number)


def test_a_worker_states_its_version() -> None:
    with serve(worker_that(truly)) as server:
        assert worker(server).version() == VERSION


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ({"weights": "x"}, "does not state its name"),
        (["brightness"], r"does not answer \(the answer is not a JSON object"),
    ],
)
def test_a_worker_without_a_name_is_refused_in_one_line(version: Any, message: str) -> None:
    with (
        serve(worker_that(truly, version)) as server,
        pytest.raises(ScorerError, match=message) as refused,
    ):
        worker(server).version()
    assert "\n" not in str(refused.value)


def test_official_ocr_reads_text_through_a_worker() -> None:
    def respond(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"id": each["id"], "value": ["New York"]} for each in items]

    with serve(worker_that(respond, {"name": "paddleocr-2.10.0"})) as server:
        reader = RemoteTextReader(worker(server))
        assert isinstance(reader, TextReader)
        assert reader.name == "paddleocr-2.10.0"
        assert reader.read(Image.new("RGB", (8, 8))).value == ["New York"]


@pytest.mark.parametrize(
    "value", ["1", True, None, [1], float("inf"), float("nan"), pytest.param(10**400, id="huge")]
)
def test_only_finite_numbers_are_numbers(value: Any) -> None:
    assert isinstance(read_number(value), Unreadable)


def test_lines_are_lists_of_strings() -> None:
    assert read_lines([]) == []
    assert read_lines(["a", "b"]) == ["a", "b"]
    assert isinstance(read_lines("a"), Unreadable)
    assert isinstance(read_lines(["a", 1]), Unreadable)
