"""The pages in Debian's Chromium: what a reader sees, on a desk and on a phone."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from deepgen.eval.report.page import pair_page, run_page
from deepgen.eval.report.results import describe, describe_pair
from tests.eval.stored_runs import geneval_items, half_right, make_run

DESK, PHONE = (1280, 2400), (390, 2400)
OURS = {"light": "#0f766e", "dark": "#2fb8a8"}
PAPER = {"light": "#fcfcfa", "dark": "#14171a"}
SECONDS = 300

WIDTHS = (1280, 390, 320)
SMUGGLED = "<script>document.documentElement.dataset.ran = 1</script>"

# Frames, because a window of its own is never narrower than 500 pixels here.
MEASURE = """<!doctype html><html><body><script>
const pages = PAGES;
const frames = Object.entries(pages).map(([name, [width, text]]) => {
  const frame = document.createElement("iframe");
  Object.assign(frame, {name, width, height: 2000, srcdoc: text, frameBorder: 0});
  document.body.append(frame);
  return frame;
});
addEventListener("load", () => {
  const found = Object.fromEntries(frames.map(({name, contentDocument: page, width}) => [name, {
    width: page.documentElement.scrollWidth,
    wide: [...page.querySelectorAll("main *")].filter(each =>
      each.getBoundingClientRect().right > +width + 0.5 && !each.closest(".scroll")
    ).map(each => each.outerHTML.slice(0, 80)),
    empty: [...page.images].filter(each => each.naturalWidth === 0).length,
    images: page.images.length,
    ran: page.documentElement.dataset.ran ?? null,
  }]));
  document.body.dataset.measured = JSON.stringify(found);
});
</script></body></html>"""


@pytest.fixture(scope="module")
def chromium() -> str:
    """The browser; absent, the test is skipped, and in CI it fails."""
    path = shutil.which("chromium")
    if path is None:
        reason = "there is no chromium to look at the page with (apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of a run and one of a pair, with the long words that break layouts."""
    folder = tmp_path_factory.mktemp("pages")
    items = geneval_items("a " + "very " * 60 + "long prompt", "W" * 150)
    first = make_run(folder / "a", items, model="a-model-with-" + "a-long-" * 12 + "name")
    second = make_run(
        folder / "b", items, lambda item, image_index: half_right(item, max(0, image_index - 1))
    )
    texts = {
        "run": run_page(describe(first, "now"), first),
        "pair": pair_page(describe_pair(first, second, "now"), first, second),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def browse(chromium: str, page: Path, size: tuple[int, int], *more: str) -> str:
    """What the browser prints."""
    command = [
        chromium,
        *("--headless", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"),
        *("--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"),
        # Its sandbox refuses to work for root, whom CI runs as; the page is our own.
        "--no-sandbox",
        f"--user-data-dir={page.parent / 'profile'}",
        f"--window-size={size[0]},{size[1]}",
        *more,
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def pixels_of(colour: str, image: np.ndarray) -> int:
    return int((image == ImageColor.getrgb(colour)).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("run", DESK, "light"), ("run", PHONE, "dark"), ("pair", PHONE, "light")],
)
def test_a_reader_sees_text_bars_and_images(
    name: str,
    size: tuple[int, int],
    scheme: str,
    chromium: str,
    pages: dict[str, Path],
    tmp_path: Path,
) -> None:
    shot = tmp_path / "shot.png"
    preferred = {"dark": 0, "light": 1}[scheme]
    browse(
        chromium,
        pages[name],
        size,
        f"--screenshot={shot}",
        f"--blink-settings=preferredColorScheme={preferred}",
    )
    with Image.open(shot) as opened:
        image = np.asarray(opened.convert("RGB"))
    assert image.shape == (size[1], size[0], 3)
    background = pixels_of(PAPER[scheme], image) / (size[0] * size[1])
    assert 0.3 < background < 0.97
    # One bar is 13 pixels high, and on a phone some 70 wide.
    assert pixels_of(OURS[scheme], image) > 500
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 100


def test_nothing_is_wider_than_the_window_and_no_script_runs(
    chromium: str, pages: dict[str, Path], tmp_path: Path
) -> None:
    framed = {
        f"{name} {width}": (width, path.read_text(encoding="utf-8"))
        for name, path in pages.items()
        for width in WIDTHS
    }
    smuggled = framed["run 1280"][1].replace("</body>", f"{SMUGGLED}</body>")
    framed["smuggled"] = (1280, smuggled)
    # The same script runs where no policy forbids it.
    framed["allowed"] = (1280, re.sub(r"<meta http-equiv=[^>]*>", "", smuggled))
    measuring = tmp_path / "measuring.html"
    listed = json.dumps(framed).replace("</", "<\\/")
    measuring.write_text(MEASURE.replace("PAGES", listed), encoding="utf-8")
    found = re.search(
        r'data-measured="([^"]*)"', browse(chromium, measuring, (1400, 2000), "--dump-dom")
    )
    assert found is not None
    results = json.loads(html.unescape(found[1]))
    assert results["allowed"]["ran"] == "1"
    assert results["smuggled"]["ran"] is None
    for name, result in results.items():
        assert result["wide"] == [], name
        assert result["width"] == framed[name][0], name
        assert result["images"] > 10, name
        assert result["empty"] == 0, name
