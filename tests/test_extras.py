from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace
from typing import Any

import pytest

from deepgen.extras import install_line


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        ({"url": "file:///c", "dir_info": {"editable": True}}, "pip install -e '/c[serve]'"),
        ({"url": "file:///a%20b", "dir_info": {}}, "pip install '/a b[serve]'"),
        ({"url": "file:///c/d.whl", "archive_info": {}}, "pip install '/c/d.whl[serve]'"),
        (
            {"url": "https://h/d.git", "vcs_info": {"vcs": "git"}},
            "pip install 'deepgen-image[serve] @ git+https://h/d.git'",
        ),
        (None, "pip install 'deepgen-image[serve]'"),
    ],
)
def test_an_extra_is_installed_from_where_the_package_came(
    origin: dict[str, Any] | None, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = None if origin is None else json.dumps(origin)
    found = SimpleNamespace(read_text=lambda _: text)
    monkeypatch.setattr("deepgen.extras.distribution", lambda _: found)
    assert install_line("serve") == line


def test_a_package_that_is_not_installed_is_named_as_on_an_index(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(_: str) -> Any:
        raise PackageNotFoundError

    monkeypatch.setattr("deepgen.extras.distribution", absent)
    assert install_line("ray") == "pip install 'deepgen-image[ray]'"
