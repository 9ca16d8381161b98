"""``--output``: where images go, checked before the first is made; and writing them there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from deepgen.cli.console import is_terminal, print_bytes
from deepgen.images.io import WRITE_FORMATS, encode_image, write_image
from deepgen.images.provenance import DigitalSource
from deepgen.images.signing import Signer
from deepgen.outputs import check_writable

STANDARD_OUTPUT = Path("-")


def plan_outputs(
    output: Path, count: int, *, overwrite: bool, name: str = "--output"
) -> list[Path]:
    """One path per image, all known to be writable; missing folders are made when writing.

    Of several images the first is number 1; the number replaces ``{i}`` in the name, or is added
    to it. ``-`` is standard output, for a single image. ``name`` is what the command calls it.

    Raises:
        ValueError: A name cannot be used, its folder is read-only, or it exists.
    """
    if output == STANDARD_OUTPUT:
        if count > 1:
            raise ValueError(f"{name} - is for one image, not for {count}; name files with {{i}}")
        if is_terminal(sys.stdout):
            raise ValueError(f"{name} - would print an image to the terminal; send it to a file")
        return [output]
    if output.suffix.lower() not in WRITE_FORMATS:
        raise ValueError(f"{name} {output} must end in one of {', '.join(WRITE_FORMATS)}")
    numbers = range(1, count + 1)
    if "{i}" in output.name:
        paths = [output.with_name(output.name.replace("{i}", str(i))) for i in numbers]
    elif count > 1:
        paths = [output.with_name(f"{output.stem}-{i}{output.suffix}") for i in numbers]
    else:
        paths = [output]
    for path in paths:
        if path.is_dir():
            raise ValueError(f"{path} is a folder, expected the name of an image file")
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{path} exists; choose another {name} or add --overwrite")
    check_writable(output.parent)
    return paths


def save_output(
    image: Image.Image,
    path: Path,
    record: Mapping[str, Any],
    *,
    overwrite: bool,
    source: DigitalSource | None = None,
    signer: Signer | None = None,
) -> None:
    """Write an image with its record where :func:`plan_outputs` said.

    Args:
        image: To write.
        path: See there.
        record: How it was made.
        overwrite: Replace an existing file.
        source: What made it; None for what no model made.
        signer: Adds a C2PA manifest.

    Raises:
        OutputClosedError: Nobody reads standard output any more.
        ValueError: The file exists by now.
    """
    if path == STANDARD_OUTPUT:
        print_bytes(encode_image(image, "PNG", record, source=source, signer=signer))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(image, path, record, overwrite=overwrite, source=source, signer=signer)
