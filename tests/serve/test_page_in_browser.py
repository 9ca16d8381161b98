"""The page in Debian's Chromium, by its buttons and keys, with an engine that paints at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deepgen.config.serve import ServeConfig
from deepgen.images.records import stored_record
from tests.serve.page_actions import PROMPT, facts, file, make, opened, pixels, plain, send_files
from tests.serve.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# -- generation ------------------------------------------------------------------------------------


def test_an_image_forms_on_the_page_and_is_saved_as_the_server_sent_it(
    page: Page, server: PageServer, tmp_path: Path
) -> None:
    server.engine.is_held = True
    page.click(f"text={PROMPT}")
    page.click("#run")
    page.wait_for_selector("#image[src^='data:image/jpeg']")
    assert pixels(page, "#image") == [8, 8]
    assert "Step 1 of 4" in page.inner_text("#progress-text")
    server.engine.is_held = False
    page.wait_for_selector("#about:not([hidden])")
    (command,) = server.engine.commands
    assert command.values["prompt"] == PROMPT
    seed = str(command.values["seed"])
    assert seed in facts(page)
    with page.expect_download() as download:
        page.click("#download")
    assert re.fullmatch(rf"deepgen-{seed}-[0-9a-f]{{8}}\.png", download.value.suggested_filename)
    download.value.save_as(tmp_path / "saved.png")
    record = stored_record((tmp_path / "saved.png").read_bytes())
    assert record["prompt"] == PROMPT
    assert str(record["seed"]) == seed
    # Enlarged: 64 pixels would be a stamp.
    assert page.eval_on_selector("#image", "each => each.clientWidth") >= 500


def test_several_images_have_seeds_that_follow_each_other_and_the_last_seed_comes_back(
    page: Page, server: PageServer
) -> None:
    make(page, seed="41", count="3")
    assert sorted(each.values["seed"] for each in server.engine.commands) == [41, 42, 43]
    page.wait_for_selector("#strip li:nth-child(3) .done")
    page.click("#strip li:nth-child(3) button")
    assert "43" in facts(page)
    page.fill("#seed", "")
    page.click("#seed-last")
    assert page.input_value("#seed") in ("41", "42", "43")


def test_variations_repeat_the_shown_image_with_new_seeds(page: Page, server: PageServer) -> None:
    make(page, seed="5")
    page.fill("#prompt", "something else")
    page.click("#variations")
    page.locator("#grid li").nth(4).wait_for()
    first, *others = server.engine.commands
    assert len(others) == 4
    assert {each.values["prompt"] for each in others} == {PROMPT}
    assert first.values["seed"] not in {each.values["seed"] for each in others}


def test_shapes_and_sides_make_the_size(page: Page, server: PageServer) -> None:
    page.check("input[value='96x64']", force=True)
    assert page.input_value("#width") == "96"
    make(page)
    assert (
        server.engine.commands[-1].values["width"],
        server.engine.commands[-1].values["height"],
    ) == (96, 64)
    page.fill("#width", "100")
    page.click("#run")
    assert "multiples of 32" in page.inner_text("#size-error")
    assert len(server.engine.commands) == 1


def test_a_cancelled_request_ends_at_the_server(page: Page, server: PageServer) -> None:
    server.engine.is_held = True
    page.fill("#prompt", PROMPT)
    page.click("#run")
    page.wait_for_selector("text=Step 1 of 4")
    page.click("#cancel")
    page.wait_for_selector("text=Cancelled")
    server.engine.wait_for(lambda: server.engine.cancelled == 1)
    assert page.locator("#grid li").count() == 0
    assert page.evaluate("document.activeElement.id") == "run"


# -- edits -----------------------------------------------------------------------------------------


def test_chosen_images_are_edited_in_their_order(page: Page, server: PageServer) -> None:
    page.set_input_files(
        "#reference-files", [file(plain("red")), file(plain("blue", (64, 128)), name="b.png")]
    )
    page.wait_for_selector(".reference:nth-child(2)")
    assert page.inner_text("#run-text") == "Edit"
    page.click(".reference:nth-child(2) [data-by='-1']")
    make(page, "make it green")
    (command,) = server.engine.commands
    assert command.values["images"] == [{"width": 64, "height": 128}, {"width": 96, "height": 64}]
    assert command.values["width"] is None
    page.click(".reference:nth-child(1) .remove")
    page.click(".reference .remove")
    assert page.inner_text("#run-text") == "Generate"


def test_a_pasted_image_and_a_dropped_one_are_edited(page: Page, server: PageServer) -> None:
    send_files(page, "paste", "body", file(plain()))
    page.wait_for_selector(".reference")
    send_files(page, "drop", "#frame", file(plain("blue"), "JPEG"))
    page.wait_for_selector(".reference:nth-child(2)")
    make(page, "make it green")
    assert len(server.engine.commands[-1].values["images"]) == 2


def test_what_the_server_does_not_read_is_converted_and_what_is_none_is_said(
    page: Page, server: PageServer
) -> None:
    broken = {"name": "b.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\nno"}
    page.set_input_files("#reference-files", [file(plain(), "GIF", "a.gif"), broken])
    page.wait_for_selector(".reference")
    note = page.inner_text("#references-note")
    assert "a.gif was converted to PNG" in note
    assert "b.png cannot be read" in note
    make(page, "make it green")
    assert len(server.engine.commands) == 1


def test_a_painted_mask_is_where_it_was_painted(page: Page, server: PageServer) -> None:
    page.set_input_files("#reference-files", [file(plain(size=(64, 64)))])
    page.click("#mask-open")
    box = page.locator("#mask-canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 4, steps=4)
    page.mouse.up()
    page.click("#mask-done")
    page.wait_for_selector("#mask-dialog", state="hidden")
    make(page, "make it green")
    mask = sent_mask(server)
    assert mask.shape == (64, 64)
    assert mask[16, 16:32].all()
    assert not mask[16, 42:].any()
    assert not mask[26:].any()


def test_a_mask_is_made_by_keys_alone_and_inverted_and_undone(
    page: Page, server: PageServer
) -> None:
    page.set_input_files("#reference-files", [file(plain(size=(64, 64)))])
    page.wait_for_selector(".reference")
    page.keyboard.press("Alt+m")
    page.wait_for_selector("#mask-dialog[open]")
    for name, value in {"x": "8", "y": "16", "w": "24", "h": "32"}.items():
        page.fill(f"#rect-{name}", value)
    page.press("#rect-add", "Enter")
    page.press("#mask-invert", "Enter")
    page.press("#mask-clear", "Enter")
    page.press("#mask-undo", "Control+z")
    page.press("#mask-done", "Enter")
    page.wait_for_selector("#mask-dialog", state="hidden")
    make(page, "make it green")
    wanted = np.ones((64, 64), bool)
    wanted[16:48, 8:32] = False
    assert (sent_mask(server) == wanted).all()
    assert "the size of the image" in page.inner_text("#size-note")


def sent_mask(server: PageServer) -> np.ndarray:
    command = server.engine.commands[-1]
    assert command.values["has_mask"]
    size = command.values["images"][0]
    data = np.frombuffer(command.blobs[-1], np.uint8)
    return data.reshape(size["height"], size["width"]) > 0


def test_two_images_are_compared_by_keys(page: Page) -> None:
    page.set_input_files("#reference-files", [file(plain())])
    make(page, "make it green")
    page.click("#compare-open")
    page.wait_for_selector("#compare:not([hidden])")
    assert pixels(page, "#compare-before") == [96, 64]
    before = clip(page)
    page.keyboard.press("ArrowRight")
    assert clip(page) != before
    page.keyboard.press("End")
    assert clip(page).startswith("inset(0px 0%")
    page.click("#compare-open")
    assert page.is_visible("#image")


def clip(page: Page) -> str:
    return page.eval_on_selector("#compare-before", "each => getComputedStyle(each).clipPath")


# -- people ----------------------------------------------------------------------------------------


def test_everything_is_done_by_keys(page: Page, server: PageServer) -> None:
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "prompt"
    page.keyboard.type("a fox? [yes]")
    page.keyboard.press("Control+Enter")
    page.locator("#grid li").nth(0).wait_for()
    page.keyboard.press("Alt+r")
    page.locator("#grid li").nth(1).wait_for()
    assert len({each.values["seed"] for each in server.engine.commands}) == 2
    server.engine.is_held = True
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("text=Step 1 of 4")
    page.keyboard.press("Escape")
    page.wait_for_selector("text=Cancelled")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector("#keys-dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#keys-dialog", state="hidden")
    # Keys that an input method composes a text with start nothing.
    count = len(server.engine.commands)
    page.eval_on_selector(
        "#prompt",
        "each => each.dispatchEvent(new KeyboardEvent('keydown', "
        "{key: 'Enter', ctrlKey: true, isComposing: true, bubbles: true}))",
    )
    page.wait_for_timeout(50)
    assert len(server.engine.commands) == count


def test_the_page_is_english_or_chinese_and_the_choice_is_kept(
    browser: Browser, server: PageServer
) -> None:
    for page in opened(browser, server, locale="zh-CN"):
        assert page.get_attribute("html", "lang") == "zh"
        assert page.inner_text("#run-text") == "生成"
        page.click("text=粉色背景上的一只猫")
        page.select_option("#language", "en")
        assert page.inner_text("#run-text") == "Generate"
        page.reload()
        page.wait_for_selector("#examples button")
        assert page.get_attribute("html", "lang") == "en"
        assert page.inner_text("#history-title") == "History"
        assert re.search("[\u4e00-\u9fff]", page.inner_text("#form")) is None


def test_dark_follows_the_system_or_the_choice(browser: Browser, server: PageServer) -> None:
    for page in opened(browser, server, color_scheme="dark", reduced_motion="reduce"):
        assert lightness(page) < 60
        page.select_option("#theme", "light")
        assert lightness(page) > 220
        page.reload()
        assert lightness(page) > 220
        durations = page.evaluate(
            "[...document.querySelectorAll('*')].map(each => getComputedStyle(each))"
            ".filter(each => each.animationName !== 'none' || each.transitionDuration !== '0s')"
            ".length"
        )
        assert durations == 0


def lightness(page: Page) -> float:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_a_phone_shows_all_of_it(browser: Browser, server: PageServer, locale: str) -> None:
    size = {"width": 360, "height": 740}
    for page in opened(browser, server, viewport=size, locale=locale, has_touch=True):
        page.set_input_files("#reference-files", [file(plain()), file(plain())])
        page.click("#more > summary")
        make(page, "W" * 200)
        page.click("#compare-open")
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.click("#mask-open")
        wide = "each => [each.scrollWidth, each.clientWidth]"
        assert len(set(page.eval_on_selector("#mask-dialog", wide))) == 1
        small = page.evaluate(
            "[...document.querySelectorAll('button, select, input:not(.visually-hidden)')]"
            ".map(each => [each.id || each.textContent, each.getBoundingClientRect()])"
            ".filter(([, {width, height}]) => width && Math.min(width, height) < 24)"
            ".map(([name]) => name)"
        )
        assert small == []


def test_a_screen_reader_is_told_at_most_every_quarter(page: Page, server: PageServer) -> None:
    page.evaluate(
        """() => {
          window.said = [];
          const live = document.getElementById("live");
          new MutationObserver(() => window.said.push(live.textContent.trim()))
            .observe(live, {childList: true, characterData: true, subtree: true});
        }"""
    )
    server.engine.step_seconds = 0.01
    make(page)
    page.wait_for_function("() => window.said.at(-1) === 'The image is ready'")
    said = page.evaluate("window.said")
    assert said[0] == "Started"
    assert sum(each.startswith("Step") for each in said) <= 3
    assert sum("ready" in each for each in said) == 1


def test_prompts_are_texts_never_elements(page: Page) -> None:
    prompt = "<img src=x onerror='document.title=1'><b>bold</b>"
    make(page, prompt)
    make(page, "another")
    page.click("#compare-open")
    page.click("#grid li:nth-child(2) .thumbnail")
    # Shown once it is read from the history.
    page.wait_for_function(
        "wanted => document.querySelector('#shown-prompt').innerText === wanted", arg=prompt
    )
    assert page.title() == "DeepGen"
    assert page.locator("#shown-prompt b").count() == 0


# -- when something is wrong -----------------------------------------------------------------------


def test_the_servers_message_stands_beside_its_field(page: Page) -> None:
    page.fill("#prompt", "字 " * 5000)
    page.click("#run")
    page.wait_for_selector("#prompt-error:not([hidden])")
    assert "tokens" in page.inner_text("#prompt-error")
    assert page.get_attribute("#prompt", "aria-invalid") == "true"
    assert page.evaluate("document.activeElement.id") == "prompt"


def test_a_full_queue_counts_down_and_offers_to_try_again(page: Page, server: PageServer) -> None:
    server.engine.busy_for = 1
    page.fill("#prompt", PROMPT)
    page.click("#run")
    page.wait_for_selector("#retry >> text=Try again (1)")
    page.click("#retry")
    page.locator("#grid li").nth(0).wait_for()
    assert page.is_hidden("#failure")


def test_what_was_asked_for_comes_once_the_model_is_loaded(page: Page, server: PageServer) -> None:
    ready, server.engine.ready = server.engine.ready, None
    page.reload()
    page.wait_for_selector("#status >> text=loading")
    page.fill("#prompt", PROMPT)
    page.click("#run")
    page.wait_for_selector("text=Waiting for the server")
    server.engine.ready = ready
    page.locator("#grid li").nth(0).wait_for()


def test_an_image_survives_a_server_that_goes_away_and_comes_back(
    page: Page, server: PageServer
) -> None:
    server.engine.is_held = True
    page.fill("#prompt", PROMPT)
    page.fill("#seed", "3")
    page.click("#run")
    page.wait_for_selector("text=Step 1 of 4")
    server.stop()
    page.wait_for_selector("#banner >> text=cannot be reached")
    server.engine.is_held = False
    server.start()
    page.wait_for_selector("#banner >> text=The server is back")
    page.locator("#grid li").nth(0).wait_for()
    assert [each.values["seed"] for each in server.engine.commands] == [3, 3]


def test_a_key_is_asked_for_and_kept_in_the_tab(browser: Browser) -> None:
    server = PageServer(ServeConfig(keys=(("ann", "secret-key"),)))
    for page in opened(browser, server):
        page.fill("#key", "wrong")
        page.click("#key-use")
        page.wait_for_selector("text=This key was not accepted.")
        page.fill("#key", "secret-key")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-field", state="hidden")
        make(page)
        page.reload()
        page.wait_for_selector('#status[data-state="ready"]')
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    server.stop()
