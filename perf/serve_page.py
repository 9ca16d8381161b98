"""The server's page: accessibility by axe-core, first paint, size.

``python perf/serve_page.py axe.min.js`` opens the page in Chromium with an engine that paints at
once, looks at it in nine states with axe-core (the file of its npm package; all rules, those of
WCAG 2.2 AA and the best practices), and measures the first contentful paint of new visitors. The
targets are no violation, 1 s and 200 kB. The result is in ``perf/results/serve_page.json``.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from measure import environment, write
from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.serve.page_server import PageServer

TARGETS = {"violations": 0, "first_paint_seconds": 1.0, "bytes": 200_000}

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

CHECK = """async (rules) => {
  const found = await axe.run(document, {runOnly: rules});
  return {
    passes: found.passes.length,
    incomplete: found.incomplete.map(({id, nodes}) => `${id}: ${nodes.length}`),
    violations: found.violations.map(({id, nodes}) =>
      ({id, nodes: nodes.map((each) => each.html.slice(0, 200))})),
  };
}"""

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000"


def main() -> None:
    """Look at the page in every state, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axe", type=Path, help="axe.min.js of the npm package axe-core 4")
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    script = arguments.axe.read_text(encoding="utf-8")
    server = PageServer()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        seconds = []
        for _ in range(arguments.repeats):
            context = browser.new_context()
            page = context.new_page()
            page.goto(server.url)
            page.wait_for_selector('#status[data-state="ready"]')
            seconds.append(round(page.evaluate(PAINT), 3))
            context.close()
        found = {
            name: state(browser, server, script, go, settings)
            for name, (go, settings) in STATES.items()
        }
        version = browser.version
        browser.close()
    record = {
        "command": "python perf/serve_page.py axe.min.js",
        "targets": TARGETS,
        "first_paint_seconds": {"median": round(statistics.median(seconds), 3), "all": seconds},
        "bytes": page_bytes(),
        "violations": sum(len(each["violations"]) for each in found.values()),
        "states": found,
        "axe": script.partition("\n")[0].strip("/*! "),
        "chromium": version,
        "environment": environment(),
    }
    write("serve_page", record)


def page_bytes() -> int:
    """Of all files of the page."""
    folder = files("deepgen.serve").joinpath("page")
    return sum(len(each.read_bytes()) for each in folder.iterdir() if each.is_file())


def state(
    browser: Any, server: PageServer, script: str, go: Callable[[Any, PageServer], None], own: Any
) -> Any:
    """What axe finds in one state."""
    server.engine.reset()
    context = browser.new_context(reduced_motion="reduce", **{"locale": "en-US", **own})
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_selector('#status[data-state="ready"]')
    page.wait_for_selector("#examples button")
    go(page, server)
    page.evaluate(script)
    found = page.evaluate(CHECK, RULES)
    server.engine.is_held = False
    context.close()
    return found


def empty(page: Any, _: PageServer) -> None:
    """As a visitor finds it."""


def errors(page: Any, _: PageServer) -> None:
    """Fields that are wrong, and all settings."""
    page.click("#more > summary")
    page.fill("#count", "99")
    page.fill("#seed", "x")
    page.fill("#steps", "0")
    page.click("#run")


def running(page: Any, server: PageServer) -> None:
    """An image that forms, of several."""
    server.engine.is_held = True
    page.fill("#prompt", "a cat on a pink background")
    page.fill("#count", "3")
    page.click("#run")
    page.wait_for_selector("#image[src^='data:']")


def result(page: Any, _: PageServer) -> None:
    """An edit, compared with its source, and a history."""
    page.fill("#prompt", "a cat on a pink background")
    page.click("#run")
    page.wait_for_selector("#grid li")
    content = BytesIO()
    Image.new("RGB", (96, 64), "red").save(content, "PNG")
    sent = {"name": "a.png", "mimeType": "image/png", "buffer": content.getvalue()}
    page.set_input_files("#reference-files", [sent, sent])
    page.wait_for_selector(".reference:nth-child(2)")
    page.click("#run")
    page.wait_for_selector("#grid li:nth-child(2)")
    page.click("#compare-open")
    page.wait_for_selector("#compare:not([hidden])")


def mask(page: Any, server: PageServer) -> None:
    """Where an image may change."""
    result(page, server)
    page.click("#mask-open")
    page.wait_for_selector("#mask-dialog[open]")


def keys(page: Any, _: PageServer) -> None:
    """The list of keys."""
    page.click("#keys-open")


def gone(page: Any, server: PageServer) -> None:
    """A server that cannot be reached, and one that had no room."""
    server.engine.busy_for = 1
    page.fill("#prompt", "a cat")
    page.click("#run")
    page.wait_for_selector("#failure:not([hidden])")
    page.route("**/v1/capabilities", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("#banner:not([hidden])")


DARK = {"color_scheme": "dark"}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}

STATES: dict[str, tuple[Callable[[Any, PageServer], None], dict[str, Any]]] = {
    "empty": (empty, {}),
    "errors, dark": (errors, DARK),
    "running": (running, {}),
    "result, light": (result, {}),
    "result, dark, phone, Chinese": (result, {**DARK, **PHONE, "locale": "zh-CN"}),
    "mask": (mask, {}),
    "mask, dark, phone": (mask, {**DARK, **PHONE}),
    "keys": (keys, {}),
    "server gone, failure": (gone, {}),
}


if __name__ == "__main__":
    main()
