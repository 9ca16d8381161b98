"""The history of the page, and settings that come back from images."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deepgen.images.records import stored_record
from tests.serve.page_actions import file, make, plain, send_files
from tests.serve.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Page

# -- history ---------------------------------------------------------------------------------------


def test_the_history_outlasts_the_page_and_is_searched_walked_and_deleted(page: Page) -> None:
    make(page, "a red fox", seed="1")
    make(page, "a blue whale", seed="2")
    page.reload()
    page.locator("#grid li").nth(1).wait_for()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#shown-prompt >> text=a blue whale")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#shown-prompt >> text=a red fox")
    assert page.eval_on_selector("#image", "each => each.naturalWidth") == 64
    page.fill("#search", "WHALE")
    assert page.locator("#grid li").count() == 1
    assert page.inner_text("#history-count") == "1 of 2 found"
    page.fill("#search", "")
    page.click("#delete")
    page.wait_for_selector("#history-count >> text=1 image")
    page.click("#delete-all")
    page.click("#sure-yes")
    page.wait_for_selector("text=Images you make appear here")
    page.reload()
    page.wait_for_selector("text=Images you make appear here")


@pytest.mark.parametrize("limit", ["entries = 2", "bytes = 12_500"])
def test_the_oldest_images_go_once_there_are_too_many(page: Page, limit: str) -> None:
    page.evaluate(f"import('/assets/store.js').then(({{limits}}) => limits.{limit})")
    page.set_input_files("#reference-files", [file(noise())])
    make(page, "a red fox")
    make(page, "a blue whale")
    page.fill("#prompt", "a green newt")
    page.click("#run")
    page.wait_for_selector("#shown-prompt >> text=a green newt")
    assert page.locator("#grid li").count() == 2
    page.reload()
    page.locator("#grid li").nth(1).wait_for()
    assert page.locator("#grid li [title='a red fox']").count() == 0


def noise() -> Image.Image:
    """A file of 2.4 kB; an edit of it has 2.7 kB, so an entry has 5."""
    values = np.random.default_rng(0).integers(0, 4, (64, 64, 1)) * np.array([60, 60, 60])
    return Image.fromarray(values.astype(np.uint8))


def test_the_history_is_exported_with_the_files_and_how_they_were_made(
    page: Page, tmp_path: Path
) -> None:
    make(page, seed="7", count="2")
    with page.expect_download() as download:
        page.click("#export")
    download.value.save_as(tmp_path / "history.zip")
    with zipfile.ZipFile(tmp_path / "history.zip") as archive:
        assert archive.testzip() is None
        records = json.loads(archive.read("history.json"))
        assert {each["seed"] for each in records} == {"7", "8"}
        for each in records:
            assert stored_record(archive.read(each["file"]))["seed"] == int(each["seed"])


def test_an_image_brings_its_settings_and_its_sources_back(page: Page, server: PageServer) -> None:
    page.set_input_files("#reference-files", [file(plain())])
    page.click("#more > summary")
    make(page, "make it green", seed="9223372036854775807", steps="7", negative="blurry")
    page.reload()
    page.click("#grid .thumbnail")
    page.click("#reuse")
    page.wait_for_selector(".reference")
    assert page.input_value("#seed") == "9223372036854775807"
    page.click("#run")
    page.locator("#grid li").nth(1).wait_for()
    first, second = server.engine.commands
    assert first.values == second.values
    assert first.blobs == second.blobs


# -- settings of files -----------------------------------------------------------------------------


def record_of(**values: Any) -> dict[str, Any]:
    return {"prompt": "a fox", "seed": 2**62 + 1, "width": 96, "height": 64} | {
        "steps": 9,
        "guidance": 2.5,
        "model": "mini",
        **values,
    }


def with_texts(**texts: str) -> Any:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_itxt(name, text, zip=True)
    return file(plain(), pnginfo=chunks)


def test_settings_come_from_a_dropped_png_without_the_server(page: Page) -> None:
    page.route("**/v1/images/inspect", lambda route: route.abort())
    page.click("#more > summary")
    send_files(page, "drop", "#settings-drop", with_texts(deepgen=json.dumps(record_of())))
    page.wait_for_selector("text=Settings of a.png are in the form.")
    found = [
        page.input_value(f"#{each}") for each in ("prompt", "seed", "width", "steps", "guidance")
    ]
    assert found == ["a fox", str(2**62 + 1), "96", "9", "2.5"]


def test_settings_of_other_models_and_out_of_range_are_shown_as_they_are(page: Page) -> None:
    page.click("#more > summary")
    sent = with_texts(deepgen=json.dumps(record_of(steps=900, width=100, model="large")))
    send_files(page, "drop", "#settings-drop", sent)
    page.wait_for_selector("text=Made by large; this server has mini.")
    assert page.input_value("#steps") == "900"
    assert page.inner_text("#steps-error") == "From 1 to 200."
    assert "multiples of 32" in page.inner_text("#size-error")


def test_settings_come_from_the_text_of_other_programs_and_from_a_jpeg(
    page: Page, server: PageServer
) -> None:
    page.click("#more > summary")
    text = (
        'a fox,\nin snow\nNegative prompt: blurry\nSteps: 8, Sampler: Euler, Seed: 7, Model: "a, b"'
    )
    page.set_input_files("#settings-file", [with_texts(parameters=text)])
    page.wait_for_selector("text=Made by a, b")
    assert page.input_value("#prompt") == "a fox,\nin snow"
    assert page.input_value("#negative") == "blurry"
    assert page.input_value("#steps") == "8"
    from deepgen.images.io import encode_image

    data = encode_image(plain(), "JPEG", record_of(prompt="a whale"))
    page.set_input_files(
        "#settings-file", [{"name": "b.jpg", "mimeType": "image/jpeg", "buffer": data}]
    )
    page.wait_for_selector("text=Settings of b.jpg are in the form.")
    assert page.input_value("#prompt") == "a whale"
    page.set_input_files("#settings-file", [file(plain())])
    page.wait_for_selector("text=a.png does not say how it was made.")
