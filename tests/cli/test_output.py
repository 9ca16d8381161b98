from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from deepgen.cli.output import ASCII_COMMENT, plan_outputs, write_image

RECORD = {"prompt": "一只猫", "seed": 7}
IMAGE = Image.new("RGB", (32, 64), (200, 30, 40))


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_png_carries_its_record(tmp_path: Path) -> None:
    write_image(IMAGE, tmp_path / "a.png", RECORD, overwrite=False)
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.info["deepgen"]) == RECORD
        assert image.tobytes() == IMAGE.tobytes()


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp"])
def test_a_jpeg_and_a_webp_carry_their_record_as_exif_comment(tmp_path: Path, name: str) -> None:
    write_image(IMAGE, tmp_path / name, RECORD, overwrite=False)
    with Image.open(tmp_path / name) as image:
        comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment.startswith(ASCII_COMMENT)
    assert json.loads(comment.removeprefix(ASCII_COMMENT)) == RECORD


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_equal_images_are_equal_files(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        write_image(IMAGE, tmp_path / f"{name}.{suffix}", RECORD, overwrite=False)
    first, second = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_a_file_that_came_in_between_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert plan_outputs(path, 1, overwrite=False) == [path]
    path.write_text("precious")
    with pytest.raises(ValueError, match="choose another"):
        write_image(IMAGE, path, RECORD, overwrite=False)
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["a.png"]


def test_overwriting_has_to_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(ValueError, match="--overwrite"):
        plan_outputs(path, 1, overwrite=False)
    assert plan_outputs(path, 1, overwrite=True) == [path]
    write_image(IMAGE, path, RECORD, overwrite=True)
    assert Image.open(path).size == (32, 64)


def test_no_file_appears_where_no_hard_links_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    write_image(IMAGE, tmp_path / "a.png", RECORD, overwrite=False)
    with pytest.raises(ValueError, match="choose another"):
        write_image(IMAGE, tmp_path / "a.png", RECORD, overwrite=False)
    assert names(tmp_path) == ["a.png"]


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    class Unwritable(Image.Image):
        def save(self, path: Path, **_: object) -> None:  # type: ignore[override]
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_image(Unwritable(), tmp_path / "a.png", RECORD, overwrite=False)
    assert names(tmp_path) == []


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
    assert names(tmp_path) == []
