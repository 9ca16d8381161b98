"""From a prompt to token ids and their positions, before any weight is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from deepgen.conditioning.texts import MAX_CHARACTERS, check_text
from deepgen.config.model import MAX_PROMPT_TOKENS, SIZE_UNIT
from deepgen.errors import shown
from deepgen.types import Pixels, Prompt

INPUT = "{input}"


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptTemplate:
    """The strings around the user's text; the defaults are those of the released model."""

    instruction: str = "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n"
    """One turn of a conversation, without a system message."""
    generation: str = "Generate an image: {input}"
    """Prefix of a text-to-image prompt; edits have none."""
    image_start: str = "<|vision_start|>"
    image_context: str = "<|image_pad|>"
    """Placeholder of one cell of a reference image; its embedding is replaced by image features."""
    image_end: str = "<|vision_end|>"
    padding: str = "<|endoftext|>"

    def __post_init__(self) -> None:
        for name in ("instruction", "generation"):
            if getattr(self, name).count(INPUT) != 1:
                raise ValueError(
                    f"{name} must contain {INPUT} once, got {shown(getattr(self, name))}"
                )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PromptTemplate:
        """Read the values of a ``prompt_template.json``; entries that no code uses are ignored."""
        names = {
            "instruction": "INSTRUCTION",
            "generation": "GENERATION",
            "image_start": "IMG_START_TOKEN",
            "image_context": "IMG_CONTEXT_TOKEN",
            "image_end": "IMG_END_TOKEN",
        }
        given = {field: values[name] for field, name in names.items() if name in values}
        for name, value in given.items():
            if not isinstance(value, str):
                raise ValueError(
                    "the entries of a prompt template must be strings, got "
                    f"{shown(value)} as {name}"
                )
        long = [name for name, value in given.items() if len(value) > MAX_CHARACTERS]
        if long:
            raise ValueError(f"{long[0]} has more than {MAX_CHARACTERS:,} characters, the limit")
        return cls(**given)

    def to_json(self) -> dict[str, str]:
        """The used entries, under the names of ``prompt_template.json``."""
        return {
            "IMG_START_TOKEN": self.image_start,
            "IMG_END_TOKEN": self.image_end,
            "IMG_CONTEXT_TOKEN": self.image_context,
            "INSTRUCTION": self.instruction,
            "GENERATION": self.generation,
        }


@dataclass(frozen=True, slots=True)
class ImageSpan:
    """Position of a reference's tokens in a row: a raster of cells of 32 x 32 pixels."""

    start: int
    rows: int
    columns: int

    @property
    def length(self) -> int:
        """Number of image tokens."""
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class TokenRow:
    """The token ids of one prompt, without padding and think tokens."""

    token_ids: tuple[int, ...]
    images: tuple[ImageSpan, ...] = ()

    def __len__(self) -> int:
        return len(self.token_ids)

    def position_ids(self, think_tokens: int = 0) -> Int[Tensor, "3 tokens"]:
        """M-RoPE positions (time, height, width) of all tokens, as in Qwen2.5-VL.

        Think tokens count as text. A text token has the same position on all three axes, one more
        than the token before. The tokens of an image that starts at position ``s`` have ``(s, s +
        row, s + column)``, and the text continues at ``s + max(rows, columns)``.
        """
        parts = []
        position = end = 0
        for image in self.images:
            text = image.start - end
            parts.append(_text_positions(position, text))
            position += text
            cells = torch.cartesian_prod(torch.arange(image.rows), torch.arange(image.columns))
            time = torch.zeros(image.length, 1, dtype=torch.long)
            parts.append(position + torch.cat([time, cells], dim=1).T)
            position += max(image.rows, image.columns)
            end = image.start + image.length
        parts.append(_text_positions(position, len(self) - end + think_tokens))
        return torch.cat(parts, dim=1)


def _text_positions(first: int, length: int) -> Int[Tensor, "3 tokens"]:
    return torch.arange(first, first + length).expand(3, -1)


class PromptTokenizer:
    """Inserts prompts into the template and converts them to token ids.

    In the user's text the names of special tokens are plain characters, so no prompt can end its
    chat turn or imitate an image. (The public implementation parses them as special tokens;
    ``compat`` does too.) Braces in the text have no meaning.

    Args:
        tokenizer: A fast Hugging Face tokenizer that knows the template's special tokens.
        template: The strings around the user's text.
        compat: Read special tokens in the user's text as the public implementation does.
    """

    def __init__(
        self, tokenizer: Any, template: PromptTemplate | None = None, *, compat: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template = template or PromptTemplate()
        self.compat = compat
        self._special: dict[str, int] = {
            token.content: id_
            for id_, token in tokenizer.added_tokens_decoder.items()
            if token.special
        }
        needed = (template.image_start, template.image_context, template.image_end)
        missing = {*needed, template.padding} - self._special.keys()
        if missing:
            raise ValueError(f"the tokenizer lacks the special tokens {sorted(missing)}")
        # Longest first, or a token whose name begins another one's would win.
        names = sorted(self._special, key=len, reverse=True)
        self._boundary = re.compile(f"({'|'.join(map(re.escape, names))})")

    @property
    def padding_id(self) -> int:
        """The token that the public implementation pads with."""
        return self._special[self.template.padding]

    @property
    def image_id(self) -> int:
        """The token that stands for one cell of a reference."""
        return self._special[self.template.image_context]

    def __call__(self, prompt: Prompt) -> TokenRow:
        """Token ids of one prompt in its template.

        Raises:
            ValueError: The prompt is too long or not valid Unicode, a reference's size is not a
                multiple of 32, or (``compat`` only) the text of an edit spells image tokens.
        """
        check_text(prompt.text)
        grids = [_grid(pixels) for pixels in prompt.references]
        ids = self._token_ids(prompt.text, grids)
        if len(ids) > MAX_PROMPT_TOKENS:
            cells = sum(rows * columns for rows, columns in grids)
            raise ValueError(
                f"the prompt has {len(ids)} tokens, {cells} of them for images, but "
                f"{MAX_PROMPT_TOKENS} is the limit; shorten it"
                + (" or give fewer or smaller images" if grids else "")
            )
        return TokenRow(tuple(ids), self._locate(ids, grids))

    def shortened(self, prompt: Prompt) -> Prompt:
        """The prompt with its text truncated to the token limit.

        Only the text is cut, on the right; the template and the references stay whole. The public
        implementation cuts the tokens of a training prompt on the left instead, which removes the
        start of the chat turn.

        Returns:
            The same object if nothing has to be cut.

        Raises:
            ValueError: A reference's size is not a multiple of 32.
        """
        grids = [_grid(pixels) for pixels in prompt.references]
        # A cheap bound that nearly all prompts pass: no token spells less than a byte, and normal
        # form C at most triples the bytes of a text.
        most = len(self._frame([])) + sum(rows * columns + 2 for rows, columns in grids)
        if most + 3 * len(prompt.text.encode(errors="replace")) <= MAX_PROMPT_TOKENS:
            return prompt
        text = prompt.text[:MAX_CHARACTERS]
        while text and (excess := len(self._token_ids(text, grids)) - MAX_PROMPT_TOKENS) > 0:
            # The rest may be tokenized differently than before, so it is measured again.
            starts = self._encoding(text, special=False, return_offsets_mapping=True)
            places = [start for start, _ in starts["offset_mapping"]]
            text = text[: places[-excess]] if excess < len(places) else ""
        return prompt if text == prompt.text else replace(prompt, text=text)

    def _token_ids(self, text: str, grids: list[tuple[int, int]]) -> list[int]:
        """Token ids of the filled template."""
        frame = self._frame(grids)
        if self.compat:
            return self._encode(frame.replace(INPUT, text), special=True)
        return self._encode_plainly(frame, text)

    def _frame(self, grids: list[tuple[int, int]]) -> str:
        """The template with the images filled in, but not the user's text."""
        template = self.template
        if not grids:
            return template.instruction.replace(INPUT, template.generation)
        images = (
            template.image_start + template.image_context * (rows * columns) + template.image_end
            for rows, columns in grids
        )
        return template.instruction.replace(INPUT, "".join(images) + "\n" + INPUT)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        return list(self._encoding(text, special=special)["input_ids"])

    def _encoding(self, text: str, *, special: bool, **options: bool) -> Mapping[str, Any]:
        encoding: Mapping[str, Any] = self.tokenizer(
            text,
            add_special_tokens=False,
            split_special_tokens=not special,
            verbose=False,
            **options,
        )
        return encoding

    def _encode_plainly(self, frame: str, text: str) -> list[int]:
        """Token ids where only the template's special tokens are special.

        The text is encoded together with the template's text around it, because byte pairs may
        cross its start (its first word takes the preceding space); a special token always separates
        the text on both sides.
        """
        ids: list[int] = []
        for piece in self._boundary.split(frame):
            if piece in self._special:
                ids.append(self._special[piece])
            elif piece:
                ids += self._encode(piece.replace(INPUT, text), special=False)
        return ids

    def _locate(self, ids: list[int], grids: list[tuple[int, int]]) -> tuple[ImageSpan, ...]:
        """The position of each reference's tokens, in the order of the references."""
        if not grids:
            return ()
        places = [place for place, id_ in enumerate(ids) if id_ == self.image_id]
        cells = sum(rows * columns for rows, columns in grids)
        if len(places) != cells:
            raise ValueError(
                f"the prompt's images have {cells} tokens, but it has {len(places)} of "
                f"{self.template.image_context}; take that out of the text"
            )
        spans: list[ImageSpan] = []
        for rows, columns in grids:
            spans.append(ImageSpan(places[sum(span.length for span in spans)], rows, columns))
        return tuple(spans)


def _grid(pixels: Pixels) -> tuple[int, int]:
    """Rows and columns of image tokens: one per 32 x 32 pixels."""
    height, width = pixels.shape[1:]
    if height % SIZE_UNIT or width % SIZE_UNIT:
        raise ValueError(
            f"sides of references must be multiples of {SIZE_UNIT}, got {height} x {width}"
        )
    return height // SIZE_UNIT, width // SIZE_UNIT
