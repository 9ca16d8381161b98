from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import deepgen.images.colors
import deepgen.images.io
from deepgen.data.importers.folder import FolderSource
from deepgen.data.importing import ImportOptions, import_source
from deepgen.errors import ImageError
from deepgen.images.io import decode_image, read_image
from deepgen.images.memory import DecodeBudget, decode_budget, needed_bytes
from tests.data.sets import image as noise_image
from tests.data.sets import quarantine


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, format=kind, **options)
    return content.getvalue()


def limit(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    monkeypatch.setattr(deepgen.images.io, "decode_budget", lambda: DecodeBudget(total))


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded() -> None:
    data = b"P6\n13000 13000\n255\n" + bytes(1000)
    with pytest.raises(ImageError, match=r"13000 x 13000.*decoding takes .* MiB, 512 is the limit"):
        decode_image(data)


def test_the_limit_is_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_budget.cache_clear()
    monkeypatch.setenv("DEEPGEN_IMAGE_MIB", "3")
    assert decode_budget().total == 3 << 20
    decode_budget.cache_clear()
    monkeypatch.setenv("DEEPGEN_IMAGE_MIB", "much")
    with pytest.raises(ValueError, match="DEEPGEN_IMAGE_MIB must be a number of MiB"):
        decode_budget()
    monkeypatch.undo()
    decode_budget.cache_clear()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_that_does_not_fit_is_decoded_at_a_reduced_scale(
    orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    source = Image.linear_gradient("L").resize((800, 400)).convert("RGB")
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(source, "JPEG", exif=exif, quality=95))
    limit(monkeypatch, 5 << 20)
    with pytest.warns(UserWarning, match=r"a\.jpg is decoded at 400 x 200 instead of 800 x 400"):
        found = read_image(path)
    assert found.size == ((400, 200) if orientation == 1 else (200, 400))
    whole = source if orientation == 1 else source.transpose(Image.Transpose.ROTATE_270)
    expected = np.asarray(whole.resize(found.size, Image.Resampling.BOX), dtype=int)
    assert np.abs(np.asarray(found, dtype=int) - expected).mean() < 2
    path.with_suffix(".txt").write_text("a gradient")
    with pytest.warns(UserWarning, match="is decoded at"):
        import_source(FolderSource(tmp_path), tmp_path / "set", ImportOptions(name="mine"))
    from deepgen.data.dataset import DataSet

    target = DataSet.open(tmp_path / "set").record(0).target
    assert (target.width, target.height) == ((800, 400) if orientation == 1 else (400, 800))


def test_threads_share_one_budget() -> None:
    budget, most, now = DecodeBudget(10), 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal most, now
        with budget.reserve(4):
            with lock:
                now += 1
                most = max(most, now)
            threading.Event().wait(0.01)
            with lock:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_conversion_in_strips_gives_the_same_image(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 1 << 16, (23, 17), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (23, 17, 4), dtype=np.uint8)).convert(mode)
    whole = np.asarray(deepgen.images.colors.to_srgb(image, name="it"))
    monkeypatch.setattr(deepgen.images.colors, "STRIP_PIXELS", 40)
    assert np.array_equal(np.asarray(deepgen.images.colors.to_srgb(image, name="it")), whole)


def test_the_estimate_grows_with_what_decoding_does() -> None:
    data = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    with Image.open(io.BytesIO(data)) as image:
        plain = needed_bytes(image, is_rotated=False)
        assert plain >= 4e6 * (4 + 4 + 6)
        assert needed_bytes(image, is_rotated=True) == plain + 4 * 4_000_000
        assert needed_bytes(image, is_rotated=False, scale=2) < plain


def test_any_failure_of_a_decoder_is_a_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        noise_image(tmp_path / "in" / f"{number}.png", number)
        (tmp_path / "in" / f"{number}.txt").write_text("noise")
    load, calls = PngImagePlugin.PngImageFile.load, []

    def fail(self: PngImagePlugin.PngImageFile) -> object:
        calls.append(self)
        if len(calls) in (1, 2):
            raise RuntimeError("Failed to decode frame 0")
        return load(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(ImageError, match=r"0\.png is damaged \(Failed to decode frame 0\)"):
        read_image(tmp_path / "in" / "0.png")
    source = FolderSource(tmp_path / "in")
    report = import_source(source, tmp_path / "out", ImportOptions(name="mine"), workers=1)
    assert (report.samples, report.quarantined) == (1, {"damaged": 1})
    assert quarantine(tmp_path / "out") == {"mine/0.png": "damaged"}


@pytest.mark.parametrize(
    "data",
    [
        b"P6\n#" + b"x" * (1 << 17) + b"\n2 2\n255\n" + bytes(12),
        b"P6\n2" + b" " * (1 << 17) + b"2\n255\n" + bytes(12),
        b"P3\n2 2\n255\n" + b"0 " * (9 << 20),
    ],
)
def test_a_ppm_whose_text_takes_too_long_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match=r"header does not end|pixels as text"):
        decode_image(data)


def test_a_ppm_with_a_comment_is_read() -> None:
    data = b"P6 # made by hand\n# in two lines\n2 1\n255\n" + bytes(range(6))
    with warnings.catch_warnings(action="error"):
        assert decode_image(data).getpixel((1, 0)) == (3, 4, 5)
