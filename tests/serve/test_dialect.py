"""The real openai client against the server: calls, fields, errors."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from deepgen.checkpoint.finding import find_model
from deepgen.config.serve import ServeConfig
from deepgen.errors import UsageError
from deepgen.images.records import statement, stored_record
from deepgen.serve.requests import Resolver
from tests.images.certificates import write_key
from tests.serve.stub import Running, StubEngine, color, running

KEY = "not needed here"


@pytest.fixture(scope="module")
def here() -> Iterator[Running]:
    with running(StubEngine(), model_alias=("gpt-image-1",)) as found:
        yield found


@pytest.fixture
def client(here: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{here.url}/v1", api_key=KEY, max_retries=0) as found:
        yield found


def image_file(side: int = 64, *, kind: str = "PNG", mode: str = "RGB") -> bytes:
    content = BytesIO()
    Image.new(mode, (side, side), "red").save(content, format=kind)
    return content.getvalue()


def mask_file(side: int = 64) -> bytes:
    mask = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, side // 2, side))
    content = BytesIO()
    mask.save(content, format="PNG")
    return content.getvalue()


def decoded(found: Any) -> list[Image.Image]:
    return [Image.open(BytesIO(base64.b64decode(each.b64_json))) for each in found.data]


def post(here: Running, path: str = "generations", **values: Any) -> httpx2.Response:
    return httpx2.post(f"{here.url}/v1/images/{path}", json=values)


def test_an_image_is_made(client: openai.OpenAI) -> None:
    found = client.images.generate(
        prompt="a cat", model="mini", n=2, size="96x64", extra_body={"seed": 5}
    )
    images = decoded(found)
    assert [each.size for each in images] == [(96, 64)] * 2
    assert [each.convert("RGB").getpixel((0, 0)) for each in images] == [
        color("a cat", 5),
        color("a cat", 6),
    ]
    assert found.size == "96x64"
    assert found.output_format == "png"
    assert found.background == "opaque"
    assert found.quality == "high"
    assert found.usage is not None
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens
    assert found._request_id is not None
    assert found._request_id.startswith("req_")


def test_an_image_says_how_it_was_made(client: openai.OpenAI) -> None:
    for kind in ("png", "jpeg", "webp"):
        options: Any = {"output_format": kind, "extra_body": {"seed": 7, "steps": 3}}
        found = client.images.generate(prompt="a cat", **options)
        assert found.data is not None
        record = stored_record(base64.b64decode(found.data[0].b64_json or ""))
        expected = {"prompt": "a cat", "seed": 7, "width": 64, "height": 64, "steps": 3}
        assert record == {**expected, "guidance": 1.0, "model": "mini"}
    found = client.images.generate(prompt="a cat", extra_body={"metadata": "minimal"})
    assert found.data is not None
    assert "prompt" not in stored_record(base64.b64decode(found.data[0].b64_json or ""))


@pytest.mark.parametrize("count", [1, 3])
def test_images_are_edited(client: openai.OpenAI, here: Running, count: int) -> None:
    files = [image_file(96) for _ in range(count)]
    found = client.images.edit(image=files[0] if count == 1 else files, prompt="make it blue", n=2)
    assert [each.size for each in decoded(found)] == [(96, 96)] * 2
    submitted = here.engine.submitted[-1]
    assert submitted["images"] == [{"width": 96, "height": 96}] * count
    assert not submitted["has_mask"]


def test_a_mask_says_where(client: openai.OpenAI, here: Running) -> None:
    client.images.edit(image=image_file(), mask=mask_file(), prompt="make it blue")
    submitted = here.engine.submitted[-1]
    assert submitted["has_mask"]
    mask = Image.frombytes("L", (64, 64), submitted["blobs"][-1])
    assert mask.getbbox() == (0, 0, 32, 64)


def test_an_edit_may_come_as_json(here: Running) -> None:
    url = "data:image/png;base64," + base64.b64encode(image_file()).decode()
    found = post(here, "edits", prompt="make it blue", images=[{"image_url": url}])
    assert found.status_code == 200
    assert found.json()["size"] == "64x64"


def test_an_image_in_json_may_be_the_address_alone(here: Running) -> None:
    url = "data:image/png;base64," + base64.b64encode(image_file()).decode()
    found = post(here, "edits", prompt="make it blue", images=[url])
    assert found.status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "param", "text"),
    [
        ("generations", {"steps": 0}, "steps", "steps must be"),
        ("generations", {"true_cfg_scale": 99}, "true_cfg_scale", "true_cfg_scale must be"),
        ("edits", {"images": [5]}, "images.0", 'such as {"image_url"'),
        ("edits", {"images": []}, "images", "images is empty"),
        ("edits", {"images": "a.png"}, "images", "images must be a list"),
        ("edits", {"images": ["data:image/png;base64,AAAA"]}, "images.0", "images.0 is no PNG"),
        ("edits", {"images": [{"url": "data:"}]}, "images.0.url", "no field images.0.url"),
    ],
)
def test_messages_name_the_field_that_was_sent(
    here: Running, path: str, fields: dict[str, Any], param: str, text: str
) -> None:
    error = post(here, path, prompt="a cat", **fields).json()["error"]
    assert error["param"] == param
    assert text in error["message"]
    assert "ImageSource" not in error["message"]


def test_given_steps_are_not_called_a_quality(client: openai.OpenAI, here: Running) -> None:
    assert "quality" not in post(here, prompt="a cat", steps=3).json()
    stream = client.images.generate(prompt="a cat", stream=True, extra_body={"steps": 3})
    (event,) = list(stream)
    assert event.quality == "auto"
    error = post(here, prompt="a cat", steps=3, quality="low").json()["error"]
    assert error["param"] == "quality"


def test_a_limit_below_the_models_own_size_is_refused() -> None:
    found = find_model("mini")
    large = replace(found, defaults=replace(found.defaults, width=256))
    with pytest.raises(UsageError, match="256x64"):
        Resolver(large, ServeConfig(max_pixels=10_000))


@pytest.mark.parametrize("partials", [0, 1, 3])
def test_a_stream_has_partial_images_then_the_image(client: openai.OpenAI, partials: int) -> None:
    stream = client.images.generate(prompt="a cat", stream=True, partial_images=partials)
    events = list(stream)
    kinds = [each.type for each in events]
    assert kinds == ["image_generation.partial_image"] * partials + ["image_generation.completed"]
    indices = [getattr(each, "partial_image_index", None) for each in events]
    assert indices == [*range(partials), None]
    (last,) = (each for each in events if each.type == "image_generation.completed")
    assert last.usage.total_tokens > 0
    assert Image.open(BytesIO(base64.b64decode(last.b64_json))).size == (64, 64)


def test_an_edit_streams_under_its_own_names(client: openai.OpenAI) -> None:
    stream = client.images.edit(
        image=image_file(), prompt="make it blue", stream=True, partial_images=1
    )
    assert [each.type for each in stream] == ["image_edit.partial_image", "image_edit.completed"]


def test_our_own_events_come_only_where_asked_for(here: Running) -> None:
    found = post(here, prompt="a cat", stream=True, progress=True, preview_interval=5, steps=10)
    assert found.headers["content-type"].startswith("text/event-stream")
    events = [
        json.loads(line.removeprefix("data: "))
        for line in found.text.splitlines()
        if line.startswith("data: ")
    ]
    kinds = {each["type"] for each in events}
    assert kinds == {"deepgen.progress", "deepgen.preview", "image_generation.completed"}
    progress = [each for each in events if each["type"] == "deepgen.progress"]
    assert progress[0]["state"] == "queued"
    assert progress[-1]["steps"] == 10
    assert events[-1]["seed"] >= 0


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [each.id for each in client.models.list()] == ["mini"]
    assert client.models.retrieve("gpt-image-1").owned_by == "deepgen"
    with pytest.raises(openai.NotFoundError, match="this server has 'mini'"):
        client.models.retrieve("other/model")


ACCEPTED: list[dict[str, Any]] = [
    {"size": "auto"},
    {"size": None, "n": None, "seed": None},
    {"quality": "auto"},
    {"quality": "standard"},
    {"background": "opaque"},
    {"output_format": "jpeg", "output_compression": 50},
    {"output_format": "webp", "output_compression": 100},
    {"response_format": "b64_json"},
    {"model": "gpt-image-1"},
    {"seed": "9223372036854775806"},
    {"steps": 3},
    {"num_inference_steps": 3, "guidance": 2},
    {"true_cfg_scale": 1.5},
    {"negative_prompt": ""},
    {"metadata": "minimal"},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=str)
def test_a_field_is_accepted(here: Running, fields: dict[str, Any]) -> None:
    found = post(here, prompt="a cat", **fields)
    assert found.status_code == 200, found.text
    assert "deepgen-ignored" not in found.headers


@pytest.mark.parametrize(
    ("quality", "steps"), [("low", 8), ("medium", 14), ("high", 20), ("xhigh", 30), ("max", 40)]
)
def test_quality_is_a_number_of_steps(here: Running, quality: str, steps: int) -> None:
    found = post(here, prompt="a cat", quality=quality).json()
    assert (found["quality"], found["deepgen"]["steps"]) == (quality, steps)


def test_labels_are_ignored_and_reported(here: Running) -> None:
    found = post(here, prompt="a cat", user="u1", moderation="low")
    assert found.headers["deepgen-ignored"] == "moderation, user"
    assert found.json()["safety_identifier"] == "u1"


def test_what_is_of_guidance_is_ignored_and_reported_where_there_is_none(here: Running) -> None:
    fields = {"guidance_interval": [0.2, 0.8], "negative_prompt": "a dog", "solver": "ab2"}
    found = post(here, prompt="a cat", guidance=1, **fields)
    assert found.headers["deepgen-ignored"] == "guidance_interval, negative_prompt"
    assert found.json()["deepgen"]["solver"] == "ab2"
    assert "guidance_interval" not in found.json()["deepgen"]
    assert "deepgen-ignored" not in post(here, prompt="a cat", guidance=2, **fields).headers


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"prompt": None}, "missing_required_parameter", "prompt"),
    ({"prompt": " "}, "invalid_value", "prompt"),
    ({"prompt": 5}, "invalid_type", "prompt"),
    ({"prompt": "a" * 32_001}, "string_above_max_length", "prompt"),
    ({"prompt": "word " * 5000}, "string_above_max_length", "prompt"),
    ({"model": "other"}, "model_not_found", "model"),
    ({"n": 0}, "invalid_value", "n"),
    ({"n": 11}, "invalid_value", "n"),
    ({"n": "2"}, "invalid_type", "n"),
    ({"n": True}, "invalid_value", "n"),
    ({"size": "100x100"}, "invalid_value", "size"),
    ({"size": "big"}, "invalid_value", "size"),
    ({"size": "100000x10000"}, "invalid_value", "size"),
    ({"quality": "best"}, "invalid_value", "quality"),
    ({"quality": "low", "steps": 3}, "invalid_value", "quality"),
    ({"background": "transparent"}, "unsupported_value", "background"),
    ({"output_format": "gif"}, "unsupported_value", "output_format"),
    ({"output_compression": 50}, "invalid_value", "output_compression"),
    ({"response_format": "url"}, "unsupported_value", "response_format"),
    ({"style": "vivid"}, "unsupported_parameter", "style"),
    ({"partial_images": 1}, "invalid_value", "partial_images"),
    ({"partial_images": 4, "stream": True}, "invalid_value", "partial_images"),
    ({"stream": True, "n": 2}, "invalid_value", "n"),
    ({"stream": "true"}, "invalid_type", "stream"),
    ({"progress": True}, "invalid_value", "progress"),
    ({"seed": -1}, "invalid_value", "seed"),
    ({"seed": 2**63 - 1, "n": 2}, "invalid_value", "seed"),
    ({"num_inference_steps": 0}, "invalid_value", "num_inference_steps"),
    ({"steps": 3, "num_inference_steps": 3}, "invalid_value", "steps"),
    ({"guidance_scale": 21}, "invalid_value", "guidance_scale"),
    ({"guidance_scale": "2"}, "invalid_type", "guidance_scale"),
    ({"stepz": 3}, "unknown_parameter", "stepz"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED, ids=lambda each: str(each)[:40])
def test_a_field_is_refused(
    here: Running, fields: dict[str, Any], code: str, param: str | None
) -> None:
    found = post(here, **{"prompt": "a cat", **fields})
    error = found.json()["error"]
    assert (error["code"], error["param"]) == (code, param), error
    assert found.status_code == (404 if code == "model_not_found" else 400)
    assert len(error["message"]) < 600
    assert set(error) == {"message", "type", "param", "code"}


def test_messages_say_what_is_possible(here: Running) -> None:
    def message(**fields: Any) -> str:
        return str(post(here, prompt="a cat", **fields).json()["error"]["message"])

    assert message(size="100x100").endswith("the nearest is 96x96")
    assert message(size="512x128").endswith("the nearest is 256x64")
    assert message(stepz=3) == "there is no field 'stepz'; did you mean steps?"
    assert message(n="2") == "n must be a valid integer, got '2'"


EDITS_REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"image": b"GIF89a no image"}, 400, "unsupported_image_format"),
    ({"image": b"\x89PNG\r\n\x1a\n damaged"}, 400, "invalid_image"),
    ({"image": b""}, 400, "invalid_image"),
    ({"image": image_file(), "mask": image_file()}, 400, "invalid_value"),
    ({"image": image_file(), "mask": mask_file(32)}, 400, "invalid_value"),
    ({"image": image_file(), "mask": image_file(kind="JPEG")}, 400, "unsupported_image_format"),
    ({"image": [image_file()] * 17}, 400, "invalid_value"),
    ({"image": image_file(), "mask": mask_file(), "size": "96x96"}, 400, "invalid_value"),
]


@pytest.mark.parametrize(("fields", "status", "code"), EDITS_REFUSED, ids=lambda e: str(e)[:30])
def test_an_edit_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.images.edit(prompt="make it blue", **fields)
    assert (caught.value.status_code, caught.value.code) == (status, code)


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "file:///etc/passwd", "data:text/html;base64,AAAA", "//x/y"],
)
def test_no_address_is_ever_fetched(here: Running, url: str) -> None:
    found = post(here, "edits", prompt="a", images=[{"image_url": url}])
    assert (found.status_code, found.json()["error"]["code"]) == (400, "unsupported_value")


STATUSES = [
    ("non_finite", 500, openai.InternalServerError, "false"),
    ("internal_error", 500, openai.InternalServerError, "false"),
    ("worker_unavailable", 503, openai.InternalServerError, "true"),
    ("out_of_memory", 503, openai.InternalServerError, "false"),
    ("deadline_exceeded", 504, openai.InternalServerError, "false"),
    ("request_too_large_for_model", 400, openai.BadRequestError, None),
]


@pytest.mark.parametrize(("code", "status", "kind", "retry"), STATUSES)
def test_failures_have_their_status_and_advice(
    client: openai.OpenAI, code: str, status: int, kind: type[openai.APIStatusError], retry: str
) -> None:
    with pytest.raises(kind) as caught:
        client.images.generate(prompt=f"fail {code}")
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.response.headers.get("x-should-retry") == retry
    with pytest.raises(openai.APIError) as streamed:
        list(client.images.generate(prompt=f"fail {code}", stream=True))
    assert streamed.value.code == code


def test_the_client_does_not_repeat_what_would_only_be_made_again(here: Running) -> None:
    before = len(here.engine.submitted)
    with (
        openai.OpenAI(base_url=f"{here.url}/v1", api_key=KEY, max_retries=2) as client,
        pytest.raises(openai.InternalServerError),
    ):
        client.images.generate(prompt="fail deadline_exceeded")
    assert len(here.engine.submitted) == before + 1


def test_other_addresses_and_methods_have_the_error_object(here: Running) -> None:
    for method, path, status, code in [
        ("GET", "/v1/images/generations", 405, "method_not_allowed"),
        ("POST", "/v1/images/variations", 404, "unknown_url"),
        ("GET", "/docs", 404, "unknown_url"),
        ("GET", "/assets/..%2fapp.py", 404, "unknown_url"),
        ("DELETE", "/v1/requests/req_none", 404, "request_not_found"),
    ]:
        found = httpx2.request(method, here.url + path)
        assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    for content, kind, code in [
        (b"{", "application/json", "invalid_value"),
        (b"[1]", "application/json", "invalid_type"),
        (b"[" * 100_000, "application/json", "invalid_value"),
        (b"{}", "text/plain", "unsupported_media_type"),
    ]:
        url = f"{here.url}/v1/images/generations"
        found = httpx2.post(url, content=content, headers={"content-type": kind})
        assert found.json()["error"]["code"] == code


def test_what_an_image_says_can_be_asked(client: openai.OpenAI, here: Running) -> None:
    made = client.images.generate(prompt="a cat", output_format="webp", extra_body={"seed": 3})
    assert made.data is not None
    data = base64.b64decode(made.data[0].b64_json or "")
    found = httpx2.post(f"{here.url}/v1/images/inspect", files={"image": data}).json()
    assert found["record"]["seed"] == 3
    assert found["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    plain = httpx2.post(f"{here.url}/v1/images/inspect", files={"image": image_file()}).json()
    nothing = dict.fromkeys(["record", "digital_source_type", "c2pa"])
    assert plain == {"format": "PNG", "width": 64, "height": 64, **nothing}


def test_images_of_the_server_say_what_made_them_and_are_signed(tmp_path: Path) -> None:
    with running(StubEngine(), sign=write_key(tmp_path), metadata="minimal") as signing:
        for path, source in [
            ("generations", "trainedAlgorithmicMedia"),
            ("edits", "compositeWithTrainedAlgorithmicMedia"),
        ]:
            values: Any = {"prompt": "a cat", "output_format": "jpeg"}
            if path == "edits":
                url = "data:image/png;base64," + base64.b64encode(image_file()).decode()
                values["images"] = [{"image_url": url}]
            found = post(signing, path, **values).json()
            data = base64.b64decode(found["data"][0]["b64_json"])
            said = statement(data)
            assert said["digital_source_type"].endswith(f"/{source}")
            assert said["c2pa"]["state"] == "valid"
            assert "prompt" not in said["record"]
