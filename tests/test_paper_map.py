"""Every file and symbol that the paper map and the list of hops name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`([a-z0-9_/]+\.py)(?::([A-Za-z_.]+))?`")


def symbols(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Classes, functions, methods and constants of a file, with dots."""
    for each in body:
        if isinstance(each, ast.ClassDef):
            yield prefix + each.name
            yield from symbols(each.body, f"{prefix}{each.name}.")
        elif isinstance(each, ast.FunctionDef):
            yield prefix + each.name
        elif isinstance(each, ast.Assign):
            yield from (prefix + name.id for name in each.targets if isinstance(name, ast.Name))
        elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            yield prefix + each.target.id


def missing(path: str, symbol: str) -> bool:
    found = [each for each in (ROOT / "src" / "deepgen" / path, ROOT / path) if each.is_file()]
    if not found:
        return True
    tree = ast.parse(found[0].read_text(encoding="utf-8"))
    return bool(symbol) and symbol not in symbols(tree.body)


@pytest.mark.parametrize("name", ["paper-map.md", "architecture.md"])
def test_every_named_file_and_symbol_exists(name: str) -> None:
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    absent = [f"{path}:{symbol}" for path, symbol in NAMED.findall(text) if missing(path, symbol)]
    assert absent == []


def test_the_paper_map_names_the_symbol_of_every_equation() -> None:
    text = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
    (flow,) = re.findall(r"^## Flow\n(.+?)^## ", text, re.M | re.S)
    rows = [row for row in flow.splitlines() if row.startswith("| ")][1:]
    assert len(rows) >= 5
    assert [row for row in rows if not any(symbol for _, symbol in NAMED.findall(row))] == []


def test_a_missing_file_or_symbol_is_noticed() -> None:
    assert not missing("flow/ode.py", "euler_step")
    assert not missing("dit/model.py", "DiT.prepare")
    assert missing("flow/ode.py", "leapfrog")
    assert missing("flow/absent.py", "")
