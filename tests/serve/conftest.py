"""The page in Debian's Chromium, as a new visitor finds it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.serve.page_actions import DESK, FORGET, opened
from tests.serve.page_server import PageServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The browser; absent, the tests are skipped, and in CI they fail."""
    path = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "there is no chromium, or no playwright, to try the page with"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # Its sandbox refuses to work for root, whom CI runs as; the page is our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shared_server() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.stop()


@pytest.fixture
def server(shared_server: PageServer) -> PageServer:
    shared_server.engine.reset()
    return shared_server


@pytest.fixture(scope="module")
def shared_page(browser: Browser, shared_server: PageServer) -> Iterator[Page]:
    yield from opened(browser, shared_server)


@pytest.fixture
def page(shared_page: Page, server: PageServer) -> Page:
    """As a new visitor finds it; a page of its own would cost each test a second."""
    shared_page.evaluate(FORGET)
    shared_page.goto("about:blank")
    shared_page.set_viewport_size(DESK)
    shared_page.unroute_all()
    shared_page.goto(server.url)
    shared_page.wait_for_selector('#status[data-state="ready"]')
    return shared_page
