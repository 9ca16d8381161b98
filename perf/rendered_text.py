"""How much of rendered text an OCR engine reads, at the size at which it was rendered.

    python perf/rendered_text.py FONTS --count 300

Read is an English word whose letters occur among those the engine found, and a Chinese character
that it found; each finding counts once. Letter case, punctuation and spaces do not count. Needs
``deepgen-image[ocr,render]``; FONTS is a folder such as the open set in docs/rendering.md.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import environment, write
from PIL import features

from deepgen.data.rendering.source import Renderer, RenderOptions
from deepgen.scoring.ocr import RapidOcrReader, letters_of

HAN = re.compile(r"[\u4e00-\u9fff]")


def words_read(texts: list[str], lines: list[str]) -> tuple[int, int, list[str]]:
    """English words, those read, and those not."""
    found = letters_of("".join(lines))
    words = [letters_of(each) for each in re.split(r"\s|[\u2e80-\uffef]", " ".join(texts))]
    wanted = sorted((each for each in words if each and not HAN.search(each)), key=len)
    missed = []
    for word in reversed(wanted):
        place = found.find(word)
        if place < 0:
            missed.append(word)
        else:
            # A mark in its place, so that its neighbours do not become a word.
            found = found[:place] + "|" + found[place + len(word) :]
    return len(wanted), len(wanted) - len(missed), missed


def characters_read(texts: list[str], lines: list[str]) -> tuple[int, int, list[str]]:
    """Chinese characters, those read, and those not."""
    wanted, found = Counter(HAN.findall("".join(texts))), Counter(HAN.findall("".join(lines)))
    missed = wanted - found
    return wanted.total(), wanted.total() - missed.total(), sorted(missed.elements())


def main() -> None:
    """Render, read, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--save-missed", type=Path, help="folder for images that are not read")
    arguments = parser.parse_args()
    record: dict[str, Any] = {"environment": environment()}
    options = RenderOptions(
        fonts=arguments.fonts, count=arguments.first + arguments.count, photos=arguments.photos
    )
    renderer, reader = Renderer(options), RapidOcrReader()
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    seconds = []
    for number in range(arguments.first, options.count):
        start = time.perf_counter()
        design, rendering, _ = renderer.draw(number)
        seconds.append(time.perf_counter() - start)
        lines = reader.read(rendering.image).value or []
        texts = [each.text.text for each in design.blocks]
        words, words_found, missed_words = words_read(texts, lines)
        characters, characters_found, missed = characters_read(texts, lines)
        for group in ("all", design.kind, design.blocks[0].layout):
            totals[group].update(
                images=1,
                words=words,
                words_read=words_found,
                characters=characters,
                characters_read=characters_found,
            )
        if missed_words or missed:
            face = renderer.faces[design.blocks[0].face]
            layout = design.blocks[0].layout
            print(number, layout, face.path.name, rendering.ems, texts, lines, flush=True)
            if arguments.save_missed:
                arguments.save_missed.mkdir(parents=True, exist_ok=True)
                rendering.image.save(arguments.save_missed / f"{number}.png")
    record["fonts"] = sorted({f"{each.path.name}" for each in renderer.faces})
    record["ocr"] = reader.name
    record["libraries"] = {
        "uniseg": version("uniseg"),
        **{name: features.version(name) for name in ("pil", "freetype2", "raqm", "harfbuzz")},
    }
    record["median_seconds_to_render"] = round(statistics.median(seconds), 4)
    record["read"] = {
        group: {
            **counts,
            "english_words": round(counts["words_read"] / max(counts["words"], 1), 4),
            "chinese_characters": round(
                counts["characters_read"] / max(counts["characters"], 1), 4
            ),
        }
        for group, counts in totals.items()
    }
    write("rendered_text", record)


if __name__ == "__main__":
    main()
