from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deepgen.images.signing
from deepgen.errors import ImageError, UsageError
from deepgen.images.io import encode_image
from deepgen.images.provenance import NEWSCODES, DigitalSource, stated_source
from deepgen.images.records import statement
from deepgen.images.signing import Signer
from tests.images.certificates import write_key

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
KINDS = ("PNG", "JPEG", "WEBP")
RECORD = {"prompt": "a cat", "seed": 1}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_key(tmp_path_factory.mktemp("key"))


def pixels(data: bytes) -> bytes:
    with Image.open(BytesIO(data)) as image:
        return image.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "source", ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
)
def test_a_file_states_what_made_it_beside_its_record(kind: str, source: DigitalSource) -> None:
    data = encode_image(IMAGE, kind, RECORD, source=source)
    assert statement(data) == {
        "format": kind,
        "width": 24,
        "height": 16,
        "record": RECORD,
        "digital_source_type": NEWSCODES + source,
        "c2pa": None,
    }
    assert pixels(data) == pixels(encode_image(IMAGE, kind, RECORD))
    assert data == encode_image(IMAGE, kind, RECORD, source=source)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_no_model_made_states_nothing(kind: str) -> None:
    content = BytesIO()
    IMAGE.save(content, format=kind)
    found = statement(content.getvalue())
    assert [found[name] for name in ("record", "digital_source_type", "c2pa")] == [None] * 3
    with pytest.raises(ImageError, match="expected an image"):
        statement(b"no image at all")


@pytest.mark.parametrize(
    ("xmp", "expected"),
    [
        (b'<r:D Iptc4xmpExt:DigitalSourceType="http://a/b"/>', "http://a/b"),
        ("<x:DigitalSourceType>\n http://a/b</x:DigitalSourceType>", "http://a/b"),
        (b"\xff\xfe nonsense", None),
        (b"", None),
        (b" " * (1 << 20) + b':DigitalSourceType="http://a/b"', None),
    ],
)
def test_other_programs_may_write_it_in_their_way(xmp: bytes | str, expected: str | None) -> None:
    assert stated_source({"xmp": xmp}) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_signed_file_holds_and_has_the_same_pixels_and_metadata(
    key: tuple[Path, Path], kind: str
) -> None:
    source: DigitalSource = "compositeWithTrainedAlgorithmicMedia"
    plain = encode_image(IMAGE, kind, RECORD, source=source)
    signed = encode_image(IMAGE, kind, RECORD, source=source, signer=Signer(key))
    assert pixels(signed) == pixels(plain)
    found, expected = statement(signed), statement(plain)
    c2pa = found.pop("c2pa")
    del expected["c2pa"]
    assert found == expected
    assert (c2pa["state"], c2pa["signer"], c2pa["generator"]) == ("valid", "Tests", "deepgen")

    import c2pa as library

    reader = library.Reader(deepgen.images.signing.MIME_TYPES[kind], BytesIO(signed))
    assert NEWSCODES + source in reader.json()
    # One changed byte of the image's data.
    start = {"PNG": b"IDAT", "JPEG": b"\xff\xda", "WEBP": b"VP8L"}[kind]
    position = signed.rindex(start) + 20
    changed = bytearray(signed)
    changed[position] ^= 1
    assert statement(bytes(changed))["c2pa"]["state"] == "invalid"


def test_without_the_library_a_manifest_is_seen_and_not_checked(
    key: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = Signer(key)
    data = encode_image(IMAGE, "PNG", {}, source="trainedAlgorithmicMedia", signer=signer)
    monkeypatch.setattr(deepgen.images.signing, "find_spec", lambda _: None)
    assert statement(data)["c2pa"]["state"] == "not checked"
    with pytest.raises(UsageError, match=r"pip install .*\[c2pa\]"):
        Signer(key)


def test_keys_that_cannot_be_used_are_refused(key: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "key.pem"
    copy.write_bytes(key[0].read_bytes())
    copy.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        Signer((copy, key[1]))
    with pytest.raises(UsageError, match="holds no private key; give the key, then its cert"):
        Signer((key[1], key[0]))
    (tmp_path / "text").write_text("no key")
    with pytest.raises(UsageError, match="is not a PEM file; give the private key, then"):
        Signer((tmp_path / "text", key[1]))
    with pytest.raises(UsageError, match="cannot be read"):
        Signer((tmp_path / "absent", key[1]))
    with pytest.raises(UsageError, match="cannot be used to sign"):
        Signer((write_key(tmp_path)[0], key[1]))
