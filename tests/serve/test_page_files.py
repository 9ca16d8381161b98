"""What the page consists of: small, every text in both languages, nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

PAGE = files("deepgen.serve").joinpath("page")
FILES = {each.name: each.read_bytes() for each in PAGE.iterdir() if each.is_file()}
SCRIPTS = {name: data.decode() for name, data in FILES.items() if name.endswith(".js")}
HTML = FILES["index.html"].decode()

MAX_BYTES = 200_000

TEXT = re.compile(r'^  "?([\w-]+)"?: (.*),$', re.MULTILINE)


def texts(language: str) -> dict[str, str]:
    return dict(TEXT.findall(SCRIPTS[f"{language}.js"]))


class Attributes(HTMLParser):
    """Collects every attribute, and what is between the tags of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture(scope="module")
def attributes() -> Attributes:
    parser = Attributes()
    parser.feed(HTML)
    return parser


def test_the_page_is_small() -> None:
    assert 20_000 < sum(map(len, FILES.values())) <= MAX_BYTES


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    english, chinese = texts("en"), texts("zh")
    assert len(english) > 100
    assert list(english) == list(chinese)
    for key, text in english.items():
        names = set(re.findall(r"\{(\w+)\}", text))
        assert names == set(re.findall(r"\{(\w+)\}", chinese[key])), key
        assert re.search(r"[\u4e00-\u9fff]", chinese[key]) or not re.search(
            r"[a-z]{2}", re.sub(r"\{\w+\}", "", text)
        ), key


def test_every_text_is_used_and_every_text_that_is_used_exists(attributes: Attributes) -> None:
    known = set(texts("en"))
    wanted = {
        value
        for _, name, value in attributes.found
        if name in ("data-text", "data-label", "data-placeholder")
    }
    code = "".join(text for name, text in SCRIPTS.items() if name not in ("en.js", "zh.js"))
    wanted |= set(re.findall(r'\bt\(\s*"([\w-]+)"', code))
    assert wanted <= known
    # Others are chosen by a condition, put together, or in a table.
    quoted = set(re.findall(r'"([\w-]+)"', code))
    starts = ("state-", "error-")
    states = {"connecting", "loading", "ready", "gone", "locked"}
    unused = known - wanted - quoted - states
    assert {each for each in unused if not each.startswith(starts)} == set()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(attributes: Attributes) -> None:
    assert "style" not in attributes.tags
    for tag, name, value in attributes.found:
        assert name != "style"
        assert not name.startswith("on"), (tag, name)
        if name in ("src", "href"):
            assert value.startswith(("/assets/", "#")), value
            assert not value.startswith("/assets/") or value.removeprefix("/assets/") in FILES
    assert not re.search(r"<script(?![^>]*\bsrc=)", HTML)
    for name, data in FILES.items():
        text = data.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text.replace("url(#a)", "")), name


def test_scripts_never_make_elements_of_texts() -> None:
    for name, text in SCRIPTS.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc",
            text,
        ), name


def test_scripts_import_only_what_is_there() -> None:
    for name, text in SCRIPTS.items():
        for imported in re.findall(r'from "([^"]+)"', text):
            assert imported.removeprefix("./") in SCRIPTS, (name, imported)
