"""How closely an image has the target texts of its prompt, by OCR; English and Chinese."""

from __future__ import annotations

from deepgen.rl.rewards.base import Reward
from deepgen.scoring.ocr import TextSimilarity, create_reader


def create_reward(
    *, worker_url: str = "", spam_penalty: float = 0.0, timeout_seconds: float = 120.0
) -> Reward:
    """By rapidocr on ONNX Runtime, or by the engine of a worker.

    Args:
        spam_penalty: Raise it to 1 where images fill up with text that nobody asked for.
        timeout_seconds: For a group: a CPU takes up to a second per image.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    return Reward(
        name="ocr",
        scorer=TextSimilarity(create_reader(worker_url), spam_penalty=spam_penalty),
        needs="target_texts",
        timeout_seconds=timeout_seconds,
    )
