"""What tests do with the page in a browser."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from tests.serve.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESK: Any = {"width": 1280, "height": 900}

FORGET = """() => new Promise((resolve) => {
  localStorage.clear();
  sessionStorage.clear();
  const request = indexedDB.deleteDatabase("deepgen");
  request.onsuccess = request.onerror = resolve;
})"""

PROMPT = "a cat on a pink background"


def opened(browser: Browser, server: PageServer, **settings: Any) -> Iterator[Page]:
    """The page with a history of its own; it must not ask other hosts, nor break a policy."""
    context = browser.new_context(**({"viewport": DESK, "locale": "en-US"} | settings))
    context.set_default_timeout(30_000)
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if "Policy" in message.text else None,
    )
    page.goto(server.url)
    page.wait_for_selector('#status:not([data-state="connecting"])')
    yield page
    context.close()
    elsewhere = [url for url in asked if not url.startswith((f"{server.url}/", "blob:", "data:"))]
    assert elsewhere == []
    assert problems == []


def make(page: Page, prompt: str = PROMPT, **values: str) -> None:
    """Ask for an image with the button, and wait until it is in the history."""
    before = page.locator("#grid li").count()
    page.fill("#prompt", prompt)
    for name, value in values.items():
        page.fill(f"#{name}", value)
    page.click("#run")
    wanted = int(values.get("count", "1"))
    page.locator("#grid li").nth(before + wanted - 1).wait_for()
    page.wait_for_selector("#run:not([hidden])")


def file(image: Image.Image, kind: str = "PNG", name: str = "a.png", **options: Any) -> Any:
    """As the file chooser gets it."""
    content = BytesIO()
    image.save(content, kind, **options)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": content.getvalue()}


def plain(color: str = "red", size: tuple[int, int] = (96, 64)) -> Image.Image:
    return Image.new("RGB", size, color)


def facts(page: Page) -> str:
    return page.locator("#facts").inner_text()


def send_files(page: Page, event: str, target: str, sent: dict[str, Any]) -> None:
    """Drop or paste a file, as the browser reports it."""
    page.evaluate(
        """([event, target, name, type, base64]) => {
          const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, {type}));
          const options = {bubbles: true, cancelable: true};
          const made = event === "paste"
            ? new ClipboardEvent("paste", {...options, clipboardData: transfer})
            : new DragEvent(event, {...options, dataTransfer: transfer});
          document.querySelector(target).dispatchEvent(made);
        }""",
        [event, target, sent["name"], sent["mimeType"], base64.b64encode(sent["buffer"]).decode()],
    )


def pixels(page: Page, selector: str) -> list[int]:
    """Width and height of an image as loaded."""
    return page.eval_on_selector(
        selector, "each => each.decode().then(() => [each.naturalWidth, each.naturalHeight])"
    )
