from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deepgen.cli.main import main
from deepgen.data.dataset import DataSet
from deepgen.data.preview_page import preview_page
from tests.data.sets import image, imported, table

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&lt; \u2028"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Two images, an edit and a row that cannot be used, with hostile texts."""
    root = tmp_path_factory.mktemp("page")
    for number, size in enumerate(((96, 96), (300, 300), (96, 120), (96, 120))):
        image(root / f"{number}.png", number, size)
    rows = [
        {"image": "0.png", "txt": EVIL},
        {"image": "1.png", "txt": "一座安静的花园"},
        {"input_image": "2.png", "output_image": "3.png", "instruction": "make it red"},
        {"image": "none.png", "txt": EVIL, "id": EVIL},
    ]
    return imported(table(root / "rows.jsonl", rows), root / "data", licence="<b>mine</b>")


def _samples(html: str) -> list[dict[str, object]]:
    found = re.search(r'<script type="application/json" id="samples">(.*?)</script>', html, re.S)
    assert found is not None
    values: list[dict[str, object]] = json.loads(found[1])
    return values


def test_a_page_has_the_samples_the_quarantine_and_what_filters_need(data: DataSet) -> None:
    page = preview_page(data)
    assert (page.shown, page.total) == (3, 3)
    samples = {str(each["id"]): each for each in _samples(page.html)}
    assert len(samples) == 4
    assert samples["mine/000001"]["size"] == "256 to 511 px"
    edit = samples["mine/000002"]
    assert (edit["task"], len(edit["references"])) == ("edit", 1)  # type: ignore[arg-type]
    bad = next(each for each in samples.values() if each["faults"])
    assert (bad["faults"], bad["target"]) == (["missing"], "")
    assert "not stated, Chinese" in page.html
    assert page.html.count('class="bar"') >= 10


def test_no_text_of_a_data_set_becomes_markup_and_nothing_is_loaded(data: DataSet) -> None:
    html = preview_page(data).html
    assert html.count("<script") == 2
    assert "alert(1)</script>" not in html
    assert "<img src=x" not in html
    assert "<b>mine</b>" not in html
    assert "default-src 'none'" in html
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
    assert EVIL.strip() in {
        str(each["prompts"][0]["text"]) for each in _samples(html) if each["prompts"]
    }  # type: ignore[index]


def test_a_large_set_is_shown_in_part_and_the_page_says_so(data: DataSet) -> None:
    assert preview_page(data, count=2).shown == 2
    small = preview_page(data, max_bytes=1)
    assert small.shown == 1
    assert "has 1 of the samples" in small.html
    assert "3 samples and 1 row in quarantine" in small.html


def test_samples_that_cannot_be_read_are_shown_with_their_fault(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DataSet, "read", lambda self, image: b"nothing")
    page = preview_page(data, faults={0: ["near_duplicate"]})
    faults = {str(each["id"]): each["faults"] for each in _samples(page.html)}
    assert faults["mine/000000"] == ["near_duplicate", "not_an_image"]


def test_the_command_writes_the_page_once(
    data: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["data", "preview", str(data.folder), "--html"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "data.html", "samples": 3, "of": 3}
    assert main(command) == 2
    assert "data.html exists; add --overwrite" in capsys.readouterr().err
    assert main([*command, "page.png"]) == 2
    assert "page.png must end in .html" in capsys.readouterr().err
    assert main(["data", "preview", str(data.folder)]) == 2
    assert "name an image file, such as sheet.png, or add --html" in capsys.readouterr().err
