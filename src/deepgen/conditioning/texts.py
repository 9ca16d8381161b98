"""Which texts a prompt may have; no torch in here, so that commands can check them first."""

from __future__ import annotations

from deepgen.config.model import MAX_PROMPT_TOKENS

# No token of Qwen2.5 spells more than 128 characters, so what is longer than this is over the limit
# for certain, and is refused without being encoded (which takes seconds for megabytes).
MAX_CHARACTERS = 128 * MAX_PROMPT_TOKENS


def check_text(text: str) -> None:
    """Refuse what no tokenizer should get.

    Raises:
        ValueError: The text is too long for any tokenizer, or not valid Unicode.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"the prompt has {len(text)} characters, which is over the limit of "
            f"{MAX_PROMPT_TOKENS} tokens; shorten it"
        )
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise ValueError(
            f"the prompt is not valid Unicode text at character {cause.start}; write it in UTF-8"
        ) from cause
