"""C2PA manifests: a signed statement in an image's file of what made it (extra ``c2pa``).

Content Credentials, https://spec.c2pa.org. The library signs and verifies; nothing is fetched.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from deepgen.errors import DeepGenError, UsageError, reason_of
from deepgen.extras import install_line
from deepgen.images.provenance import DigitalSource
from deepgen.reading import is_readable_by_all, read_text

KeyFiles = tuple[Path, Path]
"""The private key and its certificate chain, both PEM."""

MIME_TYPES: Mapping[str, str] = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ed25519")
"""Tried in this order: the key decides which one fits."""

SETTINGS: Mapping[str, Any] = {
    # Thumbnails cost 0.1 s and up to 1 MB a file. Addresses in images are never fetched.
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
}

MARKS = (b"jumb", b"c2pa")
"""Bytes of every embedded manifest, to see one without the library."""

State = Literal["trusted", "valid", "invalid", "not checked"]


class Signer:
    """Signs image files.

    Args:
        files: The private key and its certificate chain.

    Raises:
        UsageError: The extra is not installed, or a file cannot be used.
    """

    def __init__(self, files: KeyFiles) -> None:
        if find_spec("c2pa") is None:
            raise UsageError(f"signing needs the package c2pa-python: {install_line('c2pa')}")
        import c2pa

        key, chain = (_pem(path) for path in files)
        if b"PRIVATE KEY-----" not in key:
            raise UsageError(
                f"--sign: {files[0]} holds no private key; give the key, then its certificates"
            )
        _check_private(files[0])
        self._library = c2pa
        self._lock = threading.Lock()
        self._context = c2pa.Context.from_dict(dict(SETTINGS))
        reason = ""
        for name in ALGORITHMS:
            info = c2pa.C2paSignerInfo(name.encode(), chain, key, None)
            try:
                self._signer = c2pa.Signer.from_info(info)
                # Only now is it seen whether key, certificates and algorithm belong together.
                self.signed(_smallest_png(), "PNG", "trainedAlgorithmicMedia")
                return
            except (c2pa.C2paError, SigningError) as error:
                reason = reason or " ".join(str(error).split())
        raise UsageError(f"{files[0]} and {files[1]} cannot be used to sign: {reason}")

    def signed(self, data: bytes, kind: str, source: DigitalSource) -> bytes:
        """The file with a manifest; its pixels and other metadata stay.

        Args:
            data: The file.
            kind: ``PNG``, ``JPEG`` or ``WEBP``.
            source: What the manifest states.

        Raises:
            SigningError: It could not be signed.
        """
        library = self._library
        claim = {"claim_generator_info": [{"name": "deepgen", "version": version("deepgen-image")}]}
        stated = (
            library.C2paDigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
            if source == "trainedAlgorithmicMedia"
            else library.C2paDigitalSourceType.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA
        )
        result = BytesIO()
        try:
            builder = library.Builder.from_json(json.dumps(claim), context=self._context)
            builder.set_intent(library.C2paBuilderIntent.CREATE, stated)
            with self._lock:
                builder.sign(self._signer, MIME_TYPES[kind], BytesIO(data), result)
        except library.C2paError as error:
            raise SigningError(f"the image cannot be signed: {error}") from None
        return result.getvalue()


class SigningError(DeepGenError):
    """An image that was to be signed and could not be."""


def stated_manifest(data: bytes, kind: str) -> dict[str, Any] | None:
    """What the C2PA manifest in a file says, and whether it holds; None without one.

    Args:
        data: The file.
        kind: Its format, as Pillow names it.

    Returns:
        ``state`` (``trusted``, ``valid``: intact, but signed by somebody unknown; ``invalid``;
        ``not checked``: the extra is not installed), and ``signer``, ``issuer``, ``generator`` and
        ``problems``.
    """
    mime = MIME_TYPES.get(kind)
    if mime is None or not all(mark in data for mark in MARKS):
        return None
    found: dict[str, Any] = {"state": "not checked", "signer": None, "issuer": None}
    found |= {"generator": None, "problems": []}
    if find_spec("c2pa") is None:
        return found
    import c2pa

    try:
        context = c2pa.Context.from_dict(dict(SETTINGS))
        reader = c2pa.Reader.try_create(mime, BytesIO(data), context=context)
        if reader is None:
            return None
        manifest = reader.get_active_manifest() or {}
        results = json.loads(reader.json()).get("validation_results") or {}
        state = str(reader.get_validation_state()).lower()
    except (c2pa.C2paError, ValueError) as error:
        return {**found, "state": "invalid", "problems": [" ".join(str(error).split())[:200]]}
    signature = manifest.get("signature_info") or {}
    generators = manifest.get("claim_generator_info") or [{}]
    failures = (results.get("activeManifest") or {}).get("failure") or []
    return {
        "state": state if state in ("trusted", "valid") else "invalid",
        "signer": signature.get("common_name"),
        "issuer": signature.get("issuer"),
        "generator": generators[0].get("name"),
        "problems": [str(each.get("code"))[:100] for each in failures[:10]],
    }


def _pem(path: Path) -> bytes:
    try:
        text = read_text(path)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(
            f"--sign: {path} cannot be read ({reason_of(error)}); check the path"
        ) from None
    if "-----BEGIN " not in text:
        raise UsageError(
            f"--sign: {path} is not a PEM file; give the private key, then its certificates"
        )
    return text.encode()


def _check_private(path: Path) -> None:
    """Refuse a private key that every user of this machine can read.

    Raises:
        UsageError: It is one.
    """
    if is_readable_by_all(path):
        raise UsageError(f"every user can read the private key {path}; run chmod 600 {path}")


def _smallest_png() -> bytes:
    from PIL import Image

    content = BytesIO()
    Image.new("RGB", (1, 1)).save(content, format="PNG")
    return content.getvalue()
