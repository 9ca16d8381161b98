from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.output import plan_outputs, save_output


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


def test_a_missing_folder_is_made_when_the_image_is_written_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "a.png"
    assert plan_outputs(path, 1, overwrite=False) == [path]
    assert list(tmp_path.iterdir()) == []
    save_output(Image.new("RGB", (8, 8)), path, {}, overwrite=False)
    assert path.is_file()


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file, not a folder"):
        plan_outputs(tmp_path / "file" / "a.png", 1, overwrite=False)


def test_images_are_counted_from_one(tmp_path: Path) -> None:
    named = plan_outputs(tmp_path / "a.png", 2, overwrite=False)
    placed = plan_outputs(tmp_path / "{i}.png", 2, overwrite=False)
    assert [each.name for each in (*named, *placed)] == ["a-1.png", "a-2.png", "1.png", "2.png"]
    assert plan_outputs(tmp_path / "{i}.png", 1, overwrite=False) == [tmp_path / "1.png"]


def test_standard_output_is_for_one_image_and_for_no_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="is for one image, not for 2"):
        plan_outputs(Path("-"), 2, overwrite=False)
    assert plan_outputs(Path("-"), 1, overwrite=False) == [Path("-")]
    monkeypatch.setattr("deepgen.cli.output.is_terminal", lambda stream: True)
    with pytest.raises(ValueError, match="to the terminal"):
        plan_outputs(Path("-"), 1, overwrite=False)
