from __future__ import annotations

from pathlib import Path

import pytest

from deepgen.cli.output import plan_outputs


def test_overwriting_has_to_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(ValueError, match="--overwrite"):
        plan_outputs(path, 1, overwrite=False)
    assert plan_outputs(path, 1, overwrite=True) == [path]


def test_one_existing_file_of_many_is_noticed_before_the_first_is_made(tmp_path: Path) -> None:
    (tmp_path / "a-2.png").touch()
    with pytest.raises(ValueError, match=r"a-2\.png exists"):
        plan_outputs(tmp_path / "a.png", 3, overwrite=False)


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png/", "a.png.txt"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"must end in|is a folder"):
        plan_outputs(tmp_path / name, 1, overwrite=True)


def test_a_missing_folder_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder"):
        plan_outputs(tmp_path / "absent" / "a.png", 1, overwrite=False)
    assert list(tmp_path.iterdir()) == []
