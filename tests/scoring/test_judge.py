from __future__ import annotations

import base64
import collections
import io
import itertools
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deepgen.errors import ScorerError
from deepgen.scoring.answers import Answer, AnswerStatus
from deepgen.scoring.http import GIVE_UP_AFTER
from deepgen.scoring.judge import HttpJudge, JudgeConfig
from deepgen.scoring.parsing import parse_rise, parse_yes_no
from deepgen.scoring.questions import EncodedImage, Question, jpeg_image, png_image
from deepgen.scoring.reply_cache import ReplyCache
from deepgen.threads import bounded_map
from tests.scoring.servers import Heard, Said, Server, completion, serve, text_of, unused_url

RED = png_image(Image.new("RGB", (8, 8), "red"))


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPGEN_JUDGE_KEY", raising=False)


def judge(server: Server | str, folder: Path, **changes: Any) -> HttpJudge:
    settings: dict[str, Any] = {
        "base_url": server if isinstance(server, str) else f"{server.url}/v1",
        "model": "stub",
        "backoff_seconds": 0.001,
        "timeout_seconds": 5.0,
        **changes,
    }
    return HttpJudge(JudgeConfig(**settings), ReplyCache(folder / "replies.sqlite"))


def question(text: str = "Is it red?", image: EncodedImage = RED) -> Question:
    return Question(system="You judge.", parts=(image, text))


def rise(reply: str) -> Any:
    return parse_rise(reply, range(1, 6))


def list_all(judge: HttpJudge, asked: Any, concurrency: int) -> list[Answer[Any]]:
    return list(bounded_map(lambda pair: judge.ask(*pair), asked, workers=concurrency))


def stored(folder: Path, columns: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "replies.sqlite") as database:
        return database.execute(f"SELECT {columns} FROM replies ORDER BY id").fetchall()


class Faulty:
    """A judge that scores by the question's number, with faults drawn request by request."""

    def __init__(self, *, errors: float, prose: float, hangs: float) -> None:
        self.faults = (errors, prose, hangs)
        self.lock = threading.Lock()
        self.dice = random.Random(7)
        self.drawn: collections.Counter[str] = collections.Counter()

    def __call__(self, heard: Heard) -> Said:
        score = int(text_of(heard).split()[-1]) % 5 + 1
        errors, prose, hangs = itertools.accumulate(self.faults)
        with self.lock:
            drawn = self.dice.random()
            limits = {"error": errors, "prose": prose, "hang": hangs, "none": 1.0}
            fault = next(name for name, limit in limits.items() if drawn < limit)
            self.drawn[fault] += 1
            drop = self.drawn["error"] % 2 == 0
        if fault == "error":
            return Said({"error": {"message": "overloaded"}}, status=500, drop=drop)
        if fault == "prose":
            return completion("What a lovely image; I would rather not put a number to it.")
        good = completion(f"It follows the instruction.\n\nFinal Score: {score}")
        good.hang_seconds = 30.0 if fault == "hang" else 0.0
        return good


def questions_with_numbers(count: int) -> list[Question]:
    return [question(f"How good, in number {number}") for number in range(count)]


def values(answers: list[Answer[Any]]) -> list[Any]:
    return [answer.value for answer in answers]


def test_faults_of_the_server_leave_the_scores_as_they_are(tmp_path: Path) -> None:
    asked = [(each, rise) for each in questions_with_numbers(100)]
    with serve(Faulty(errors=0, prose=0, hangs=0)) as server:
        true = values(list_all(judge(server, tmp_path / "calm"), asked, concurrency=16))
    faulty = Faulty(errors=0.2, prose=0.1, hangs=0.05)
    with serve(faulty) as server:
        client = judge(server, tmp_path, timeout_seconds=2.0, request_attempts=8)
        answers = list_all(client, asked, concurrency=16)
    assert true == [number % 5 + 1 for number in range(100)]
    assert values(answers) == true
    assert min(faulty.drawn[fault] for fault in ("error", "prose", "hang")) > 0
    replies = stored(tmp_path, "text, model, judge, prompt_hash, body")
    prose = sum(text.startswith("What a lovely") for text, *_ in replies)
    # On a busy machine one may come too late to be read.
    assert 0 < prose <= faulty.drawn["prose"]
    assert len(replies) == 100 + prose
    assert {row[1:3] for row in replies} == {("stub-1", "stub")}
    assert {row[3] for row in replies} == {each.prompt_hash for each, _ in asked}
    assert all('"choices"' in row[4] for row in replies)


def test_without_retries_what_fails_is_failed_and_the_rest_is_right(tmp_path: Path) -> None:
    asked = [(each, rise) for each in questions_with_numbers(60)]
    faulty = Faulty(errors=0.2, prose=0.1, hangs=0.05)
    with serve(faulty) as server:
        client = judge(server, tmp_path, timeout_seconds=1.0, request_attempts=1, reply_attempts=1)
        answers = list_all(client, asked, concurrency=16)
    counts = collections.Counter(answer.status for answer in answers)
    assert 0 < counts[AnswerStatus.UNREADABLE] <= faulty.drawn["prose"]
    assert counts[AnswerStatus.ERROR] >= faulty.drawn["error"] + faulty.drawn["hang"] > 0
    for number, answer in enumerate(answers):
        expected = number % 5 + 1 if answer.status is AnswerStatus.SCORED else None
        assert answer.value == expected
        assert bool(answer.reason) == (answer.value is None)


def test_a_second_run_asks_only_for_what_failed(tmp_path: Path) -> None:
    asked = [(each, rise) for each in questions_with_numbers(40)]
    with serve(Faulty(errors=0.3, prose=0, hangs=0)) as server:
        first = list_all(judge(server, tmp_path, request_attempts=1), asked, concurrency=4)
    failed = sum(answer.status is AnswerStatus.ERROR for answer in first)
    with serve(Faulty(errors=0, prose=0, hangs=0)) as server:
        second = list_all(judge(server, tmp_path), asked, concurrency=4)
    assert len(server.heard) == failed > 0
    assert values(second) == [number % 5 + 1 for number in range(40)]


def test_another_parser_asks_nobody_and_another_question_does(tmp_path: Path) -> None:
    with serve(lambda heard: completion("Yes. Final Score: 4")) as server:
        assert judge(server, tmp_path).ask(question(), parse_yes_no).value == 1
        assert judge(server, tmp_path).ask(question(), rise).value == 4
        assert len(server.heard) == 1
        judge(server, tmp_path).ask(question("Is it blue?"), rise)
        encoded = jpeg_image(Image.new("RGB", (8, 8), "red"))
        judge(server, tmp_path).ask(question(image=encoded), rise)
        judge(server, tmp_path, parameters={"temperature": 1}).ask(question(), rise)
        judge(server, tmp_path, model="other").ask(question(), rise)
        assert len(server.heard) == 5
    assert len(set(stored(tmp_path, "key"))) == 5


def test_the_request_is_a_chat_completion_with_the_image_as_it_is(tmp_path: Path) -> None:
    settings = {"temperature": 0, "response_format": {"type": "json_object"}}
    with serve(lambda heard: completion("yes")) as server:
        image = EncodedImage(data=RED.data, media_type="image/png", detail="high")
        judge(server, tmp_path, parameters=settings, max_tokens=(512,)).ask(
            question(image=image), parse_yes_no
        )
    heard = server.heard[0]
    assert heard.path == "/v1/chat/completions"
    system, user = heard.body.pop("messages")
    assert heard.body == {"model": "stub", "max_tokens": 512, **settings}
    assert system == {"role": "system", "content": "You judge."}
    shown, said = user["content"]
    assert said == {"type": "text", "text": "Is it red?"}
    assert shown["image_url"]["detail"] == "high"
    data = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).getpixel((0, 0)) == (255, 0, 0)


def test_no_more_requests_are_in_flight_than_allowed(tmp_path: Path) -> None:
    def slowly(heard: Heard) -> Said:
        said = completion("yes")
        said.hang_seconds = 0.02
        return said

    asked = [(each, parse_yes_no) for each in questions_with_numbers(24)]
    with serve(slowly) as server:
        list_all(judge(server, tmp_path, concurrency=3), asked, concurrency=12)
    assert server.most_at_once == 3


def test_unreadable_replies_are_asked_for_again_only_so_often(tmp_path: Path) -> None:
    with serve(lambda heard: completion("Hm.")) as server:
        answer = judge(server, tmp_path, reply_attempts=3).ask(question(), parse_yes_no)
        again = judge(server, tmp_path, reply_attempts=3).ask(question(), parse_yes_no)
    assert len(server.heard) == 3
    assert answer == again
    assert (answer.status, answer.reply, answer.replies) == (AnswerStatus.UNREADABLE, "Hm.", 3)
    assert answer.reason == "neither yes nor no"


@pytest.mark.parametrize(
    "said",
    [
        completion(None, finish="content_filter"),
        completion(None, finish="SAFETY"),
        Said({"model": "stub-1", "choices": [{"message": {"content": None, "refusal": "No."}}]}),
        Said({"model": "stub-1", "choices": [{"finish_reason": "content_filter"}]}),
        Said({"error": {"code": "content_policy_violation"}}, status=400),
        Said({"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}, status=400),
        completion("I'm sorry, but I can't assist with that request."),
    ],
)
def test_a_refusal_is_a_status_of_its_own(tmp_path: Path, said: Said) -> None:
    with serve(lambda heard: said) as server:
        answer = judge(server, tmp_path).ask(question(), parse_yes_no)
    assert (answer.status, answer.value) == (AnswerStatus.REFUSED, None)
    assert stored(tmp_path, "body") != []


def test_refusals_are_asked_about_again(tmp_path: Path) -> None:
    said = iter([completion(None, finish="content_filter"), completion("yes")])
    with serve(lambda heard: next(said)) as server:
        answer = judge(server, tmp_path).ask(question(), parse_yes_no)
        assert answer.status is AnswerStatus.REFUSED
        assert judge(server, tmp_path).ask(question(), parse_yes_no).value == 1
        assert judge(server, tmp_path).ask(question(), parse_yes_no).value == 1
    assert len(server.heard) == 2
    assert stored(tmp_path, "finish_reason") == [("refused",), ("complete",)]


def test_a_cut_reply_is_no_answer_and_the_next_may_be_longer(tmp_path: Path) -> None:
    def think(heard: Heard) -> Said:
        enough = heard.body["max_tokens"] >= 8192
        return completion("yes" if enough else "yes, bu", finish="stop" if enough else "length")

    with serve(think) as server:
        limits = (512, 2048, 8192)
        answer = judge(server, tmp_path, max_tokens=limits).ask(question(), parse_yes_no)
        assert len(server.heard) == 3
        again = judge(server, tmp_path, max_tokens=limits).ask(question(), parse_yes_no)
        assert (again, len(server.heard)) == (answer, 3)
        cut = judge(server, tmp_path, max_tokens=(512,)).ask(question(), parse_yes_no)
    assert (answer.value, answer.replies) == (1, 3)
    assert cut.status is AnswerStatus.UNREADABLE
    assert "limit of tokens" in cut.reason


def test_a_model_that_changes_under_its_name_stops_the_run(tmp_path: Path) -> None:
    served = iter(["stub-may", "stub-may", "stub-june"])
    with serve(lambda heard: completion("yes", model=next(served))) as server:
        client = judge(server, tmp_path)
        client.ask(question("one"), parse_yes_no)
        client.ask(question("two"), parse_yes_no)
        assert client.name == "stub-may"
        with pytest.raises(ScorerError, match="was stub-may and is stub-june"):
            client.ask(question("three"), parse_yes_no)
    with (
        serve(lambda heard: completion("yes", model="stub-june")) as server,
        pytest.raises(ScorerError, match="was stub-may and is stub-june"),
    ):
        later = judge(server, tmp_path)
        later.ask(question("one"), parse_yes_no)
        later.ask(question("four"), parse_yes_no)


def test_the_wait_that_a_busy_server_asks_for_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    busy = Said({"error": "busy"}, status=429, headers={"Retry-After": "7"})
    said = iter([busy, Said(b"", status=503), completion("yes")])
    with serve(lambda heard: next(said)) as server:
        answer = judge(server, tmp_path, backoff_seconds=1.0).ask(question(), parse_yes_no)
    assert answer.value == 1
    assert waited[0] == 7.0
    assert 1.0 <= waited[1] <= 3.0


def test_a_refused_request_is_not_repeated(tmp_path: Path) -> None:
    with serve(lambda heard: Said({"error": "image too large"}, status=413)) as server:
        answer = judge(server, tmp_path).ask(question(), parse_yes_no)
    assert len(server.heard) == 1
    assert answer.status is AnswerStatus.ERROR
    assert "image too large" in answer.reason


@pytest.mark.parametrize(
    "said",
    [Said(b"<html>"), Said([1]), Said({"choices": []}), Said({"choices": [{"message": "yes"}]})],
)
def test_what_is_no_completion_is_an_error(tmp_path: Path, said: Said) -> None:
    with serve(lambda heard: said) as server:
        answer = judge(server, tmp_path, request_attempts=2).ask(question(), parse_yes_no)
    assert answer.status is AnswerStatus.ERROR
    assert len(server.heard) == 2


def test_a_judge_that_is_gone_stops_the_run(tmp_path: Path) -> None:
    asked = [(each, parse_yes_no) for each in questions_with_numbers(300)]
    client = judge(unused_url(), tmp_path, request_attempts=1)
    with pytest.raises(ScorerError, match=r"no judge answers at http://127.*start the server"):
        list_all(client, asked, concurrency=2)
    with serve(lambda heard: Said({}, status=503)) as server:
        with pytest.raises(ScorerError, match="no judge answers"):
            list_all(judge(server, tmp_path, request_attempts=1), asked, concurrency=2)
        assert len(server.heard) < GIVE_UP_AFTER + 10


def test_keys_reach_the_server_and_no_file_and_no_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_JUDGE_KEY", "sk-secret")

    def indiscreet(heard: Heard) -> Said:
        if "blue" in text_of(heard):
            return Said({"error": "bad key sk-secret"}, status=401)
        return completion("yes, and your key is sk-secret")

    with serve(indiscreet) as server:
        client = judge(server, tmp_path)
        assert client.ask(question(), parse_yes_no).reply == "yes, and your key is ***"
        with pytest.raises(ScorerError, match="DEEPGEN_JUDGE_KEY, and its key was refused") as told:
            client.ask(question("Is it blue?"), parse_yes_no)
    assert server.heard[0].headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(told.value)
    client.cache.close()
    assert all(b"sk-secret" not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_is_not_carried_to_another_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPGEN_JUDGE_KEY", "sk-secret")
    with serve(lambda heard: completion("yes")) as other:
        moved = Said({}, status=302, headers={"Location": f"{other.url}/v1/chat/completions"})
        with serve(lambda heard: moved) as server:
            answer = judge(server, tmp_path).ask(question(), parse_yes_no)
    assert answer.status is AnswerStatus.ERROR
    assert other.heard == []


def name_the_color(heard: Heard) -> Said:
    content = heard.body["messages"][0]["content"]
    shown = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    if not shown:
        return completion("none")
    image = Image.open(io.BytesIO(base64.b64decode(shown[0].partition(",")[2]))).convert("RGB")
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return completion(("red", "green", "blue")[pixel.index(max(pixel))].title() + ".")


def text_only(heard: Heard) -> Said:
    if "image_url" in str(heard.body):
        return Said({"message": "At most 0 image(s) may be provided"}, status=400)
    return completion("none")


def test_a_judge_that_refuses_everything_stops_the_run(tmp_path: Path) -> None:
    asked = [(each, parse_yes_no) for each in questions_with_numbers(300)]
    with serve(text_only) as server:
        with pytest.raises(ScorerError, match="takes text but no images"):
            list_all(judge(server, tmp_path), asked, concurrency=2)
        assert len(server.heard) < GIVE_UP_AFTER + 20

    def picky(heard: Heard) -> Said:
        if "How good" in text_of(heard):
            return Said({"error": "no such option: top_j"}, status=400)
        return name_the_color(heard)

    with (
        serve(picky) as server,
        pytest.raises(ScorerError, match=r"refuses every question .*top_j.*correct its parameters"),
    ):
        list_all(judge(server, tmp_path), asked, concurrency=2)


def test_the_check_passes_a_judge_that_sees(tmp_path: Path) -> None:
    with serve(name_the_color) as server:
        judge(server, tmp_path).check()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (text_only, "takes text but no images .*At most 0 image.*choose a model with image"),
        (lambda heard: completion("Red."), "does not see images: shown plain green, it said"),
        (lambda heard: completion("red, green or blue"), "does not see images: shown plain red"),
        (lambda heard: Said({}, status=404), "does not know stub .*check the model's name"),
        (lambda heard: Said({}, status=401), "DEEPGEN_JUDGE_KEY, and it is not set"),
        (lambda heard: Said({}, status=500), "no judge answers at .*HTTP 500"),
    ],
)
def test_the_check_says_in_one_line_what_is_wrong(
    tmp_path: Path, answer: Any, message: str
) -> None:
    with serve(answer) as server, pytest.raises(ScorerError, match=message) as told:
        judge(server, tmp_path, request_attempts=2).check()
    assert "\n" not in str(told.value)


def test_the_check_says_when_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ScorerError, match=r"no judge answers at .*refused.*start the server"):
        judge(unused_url(), tmp_path).check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_url": "localhost:8000"}, "expected something like http://"),
        ({"base_url": "https://me:secret@host/v1"}, "secrets come from the environment"),
        ({"concurrency": 0}, "concurrency must be at least 1, got 0"),
        ({"timeout_seconds": 0.0}, "timeout_seconds must be a positive number"),
        ({"parameters": {"model": "x"}}, "model cannot be among the parameters"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        JudgeConfig(**{"base_url": "http://localhost/v1", "model": "stub", **changes})


def test_a_file_that_is_no_store_of_replies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "replies.sqlite").write_text("scores of last year " * 100)
    with pytest.raises(ScorerError, match="cannot be used as a cache of judge replies"):
        ReplyCache(tmp_path / "replies.sqlite")


def test_a_store_that_fails_in_the_middle_is_one_line(tmp_path: Path) -> None:
    with serve(lambda heard: completion("yes")) as server:
        client = judge(server, tmp_path)
        with sqlite3.connect(tmp_path / "replies.sqlite") as database:
            database.execute("DROP TABLE replies")
        with pytest.raises(ScorerError, match=r"the cache of judge replies .* failed"):
            client.ask(question(), parse_yes_no)


def test_replies_with_broken_characters_are_kept(tmp_path: Path) -> None:
    with serve(lambda heard: completion("yes \ud83d")) as server:
        answer = judge(server, tmp_path).ask(question("Is \udc00 it?"), parse_yes_no)
        assert answer.value == 1
        assert judge(server, tmp_path).ask(question("Is \udc00 it?"), parse_yes_no).value == 1
    assert len(server.heard) == 1
