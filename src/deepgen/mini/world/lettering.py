"""The letters that the mini's world writes: our own strokes, so that every machine draws the same.

A letter is a path of centre lines on a 3 x 5 grid, stroked one unit wide with round ends; all are
equally wide. Look-alikes (O and 0, I and 1, S and 5, Z and 2, B and 8) have no letters.
"""

from __future__ import annotations

STROKES: dict[str, str] = {
    "A": "M0 5L1.5 0L3 5M.6 3.3H2.4",
    "C": "M3 1.2Q2.8 0 1.5 0Q0 0 0 1.6V3.4Q0 5 1.5 5Q2.8 5 3 3.8",
    "D": "M0 0H1.2Q3 0 3 2.5Q3 5 1.2 5H0Z",
    "E": "M3 0H0V5H3M0 2.5H2.4",
    "F": "M3 0H0V5M0 2.5H2.4",
    "G": "M3 1.2Q2.8 0 1.5 0Q0 0 0 1.6V3.4Q0 5 1.5 5Q3 5 3 3.6V2.8H1.7",
    "H": "M0 0V5M3 0V5M0 2.5H3",
    "J": "M1.2 0H3V3.4Q3 5 1.5 5Q0 5 0 3.6",
    "K": "M0 0V5M3 0L0 3M1.1 2L3 5",
    "L": "M0 0V5H3",
    "M": "M0 5V0L1.5 2.8L3 0V5",
    "N": "M0 5V0L3 5V0",
    "P": "M0 5V0H1.5Q3 0 3 1.4Q3 2.8 1.5 2.8H0",
    "Q": "M1.5 0Q0 0 0 2V3Q0 5 1.5 5Q3 5 3 3V2Q3 0 1.5 0ZM1.7 3.4L3.2 5.2",
    "R": "M0 5V0H1.5Q3 0 3 1.4Q3 2.8 1.5 2.8H0M1.4 2.8L3 5",
    "T": "M0 0H3M1.5 0V5",
    "U": "M0 0V3.4Q0 5 1.5 5Q3 5 3 3.4V0",
    "V": "M0 0L1.5 5L3 0",
    "W": "M0 0L.7 5L1.5 2L2.3 5L3 0",
    "X": "M0 0L3 5M3 0L0 5",
    "Y": "M0 0L1.5 2.5L3 0M1.5 2.5V5",
    "3": "M0 .7Q.6 0 1.5 0Q2.9 0 2.9 1.25Q2.9 2.4 1.4 2.4Q3 2.4 3 3.7Q3 5 1.5 5Q.5 5 0 4.2",
    "4": "M2.3 5V0L0 3.6H3",
    "6": "M2.6 .2Q0 .9 0 3.4Q0 5 1.5 5Q3 5 3 3.5Q3 2.1 1.5 2.1Q.3 2.1 0 3.3",
    "7": "M0 0H3L1 5",
    "9": "M.4 4.8Q3 4.1 3 1.6Q3 0 1.5 0Q0 0 0 1.5Q0 2.9 1.5 2.9Q2.7 2.9 3 1.7",
}
ALPHABET = "".join(STROKES)

# In strokes: a letter with its ends, and from one letter to the next.
_LETTER_WIDTH = 4.0
_LETTER_HEIGHT = 6.0
_ADVANCE = 5.0


def aspect(text: str) -> float:
    """Width of a word over the height of its capitals."""
    return (_LETTER_WIDTH + (len(text) - 1) * _ADVANCE) / _LETTER_HEIGHT


def word_svg(text: str) -> str:
    """The word in black, as SVG that its ink fills from edge to edge."""
    letters = "".join(
        f'<path transform="translate({index * _ADVANCE + 0.5} 0.5)" d="{STROKES[letter]}"/>'
        for index, letter in enumerate(text)
    )
    view = f"0 0 {aspect(text) * _LETTER_HEIGHT} {_LETTER_HEIGHT}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{view}">'
        '<g fill="none" stroke="#000" stroke-linecap="round" stroke-linejoin="round">'
        f"{letters}</g></svg>"
    )
