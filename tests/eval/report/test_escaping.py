"""Texts of users, prompt files and servers in reports: shown as they are, never obeyed."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from deepgen.eval.report.escaping import csv_cell, markdown
from deepgen.eval.report.results import describe, to_csv, to_markdown
from tests.eval.report.test_results import draw_and_judge, stored

HOSTILE = '=<script>alert(1)</script> **b** _i_ [a](http://b "c") `d` &lt; ~~e~~ https://f.g a|b\\'


def test_a_report_shows_the_name_of_a_model_and_obeys_nothing_in_it(tmp_path: Path) -> None:
    draw_and_judge(tmp_path, right=3, model=HOSTILE)
    report = describe(stored(tmp_path), "now")
    page = MarkdownIt("commonmark").enable("table").render(to_markdown(report))
    assert not {"<script", "<a ", "<em", "<code"} & set(page.split(">"))
    assert page.count("<h1>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert {row["model"] for row in rows} == {f"'{HOSTILE}"}


@pytest.mark.parametrize("text", [HOSTILE, "model_a-v1.5", "*", "a_b_", "![a](b)", "<b", "\\`"])
def test_a_text_in_markdown_is_rendered_as_it_is(text: str) -> None:
    (inline,) = [
        each for each in MarkdownIt("commonmark").parse(f"x {markdown(text)} x") if each.children
    ]
    assert "".join(each.content for each in inline.children or ()) == f"x {text} x"
    assert {each.type for each in inline.children or ()} <= {"text", "text_special"}


def test_lines_and_invisible_characters_stay_within_a_cell() -> None:
    assert markdown("a\n\n# b\r\n\x1b[31m\u202ec") == "a # b \ufffd\\[31m\ufffdc"


@pytest.mark.parametrize("text", ["=1+1", " @a", "+1", "-1", "\t=1", "\uff1da"])
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


def test_other_cells_of_a_table_are_unchanged() -> None:
    assert [csv_cell(each) for each in ("", "a=b", "model-1", "1.5")] == [
        "",
        "a=b",
        "model-1",
        "1.5",
    ]
