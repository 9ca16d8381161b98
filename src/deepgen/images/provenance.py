"""That an image comes from a model: the IPTC digital source type, in the XMP of its file.

https://iptc.org/std/photometadata (digital source type), the NewsCodes at
http://cv.iptc.org/newscodes/digitalsourcetype.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

DigitalSource = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
"""Made by a model alone, or from given images as well."""

NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"

PNG_XMP = "XML:com.adobe.xmp"
"""Keyword of the text chunk that has a PNG's XMP."""

SOURCE_KEY = "digital_source_type"
"""Where the pipeline leaves the source in ``image.info``."""

MAX_XMP_BYTES = 1 << 20

# As an attribute or as an element, in any of the prefixes in use.
STATED = re.compile(r":DigitalSourceType\s*(?:=\s*[\"']|>\s*)([^\"'<>\s]{1,200})")

MEANINGS: Mapping[str, str] = {
    "trainedAlgorithmicMedia": "made by a trained model",
    "compositeWithTrainedAlgorithmicMedia": "composite with content made by a trained model",
}


def source_of(*, is_edit: bool) -> DigitalSource:
    """The source of what the pipeline makes."""
    return "compositeWithTrainedAlgorithmicMedia" if is_edit else "trainedAlgorithmicMedia"


def xmp_packet(source: DigitalSource) -> bytes:
    """XMP that states a source, and nothing else."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" '
        'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{NEWSCODES}{source}</Iptc4xmpExt:DigitalSourceType>"
        '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def stated_source(info: Mapping[Any, Any]) -> str | None:
    """The address of the source type that an opened file states, whoever wrote it.

    Args:
        info: ``Image.info`` of the opened file.
    """
    xmp = info.get("xmp") or info.get(PNG_XMP) or b""
    if len(xmp) > MAX_XMP_BYTES:
        return None
    text = xmp if isinstance(xmp, str) else bytes(xmp).decode("utf-8", errors="replace")
    match = STATED.search(text)
    return match[1] if match else None
