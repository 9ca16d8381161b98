from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from PIL import Image

from deepgen.errors import ImageError
from deepgen.scoring.questions import (
    Question,
    jpeg_image,
    png_image,
    sha256_of_json,
    stored_image,
)


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(1).randbytes(width * height * 3))


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("a.png", "image/png"), ("a.jpg", "image/jpeg"), ("a.webp", "image/webp")],
)
def test_a_stored_image_is_sent_byte_for_byte(tmp_path: Path, name: str, media_type: str) -> None:
    noise(8, 8).save(tmp_path / name)
    image = stored_image(tmp_path / name)
    assert image.data == (tmp_path / name).read_bytes()
    assert image.url().startswith(f"data:{media_type};base64,")


def test_a_photograph_with_a_second_image_behind_it_is_a_jpeg(tmp_path: Path) -> None:
    noise(8, 8).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[noise(4, 4)])
    assert stored_image(tmp_path / "a.jpg").media_type == "image/jpeg"


def test_what_is_no_whole_image_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no image at"):
        stored_image(tmp_path / "absent.png")
    noise(8, 8).save(tmp_path / "a.bmp")
    with pytest.raises(ImageError, match="cannot be sent to a judge; expected one of PNG"):
        stored_image(tmp_path / "a.bmp")
    noise(64, 64).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:5000])
    with pytest.raises(ImageError, match=r"a\.png is damaged"):
        stored_image(tmp_path / "a.png")


def test_png_loses_nothing_and_jpeg_may_shrink() -> None:
    image = noise(90, 30)
    with Image.open(io.BytesIO(png_image(image).data)) as opened:
        assert opened.tobytes() == image.tobytes()
    with Image.open(io.BytesIO(jpeg_image(image, longest_side=60).data)) as opened:
        assert (opened.format, opened.size) == ("JPEG", (60, 20))
    with Image.open(io.BytesIO(jpeg_image(image, longest_side=900).data)) as opened:
        assert opened.size == (90, 30)
    assert image.size == (90, 30)


def test_a_question_is_known_by_its_words_its_images_and_their_order() -> None:
    first, second = png_image(noise(8, 8)), png_image(noise(9, 9))
    questions = [
        Question(parts=(first, second, "Which?")),
        Question(parts=(second, first, "Which?")),
        Question(parts=(first, "Which?", second)),
        Question(parts=(first, second, "Which")),
        Question(parts=(first, second, "Which?"), system="Judge."),
    ]
    assert len({sha256_of_json(each.fingerprint()) for each in questions}) == 5
    assert questions[0].prompt_hash == questions[1].prompt_hash
    assert len({each.prompt_hash for each in questions}) == 4
    assert questions[4].text == "Judge.\nWhich?"
    with pytest.raises(ValueError, match="at least one part"):
        Question(parts=())
