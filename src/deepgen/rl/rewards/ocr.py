"""How closely an image has the target texts of its prompt, by OCR; English and Chinese."""

from __future__ import annotations

from deepgen.rl.rewards.base import Reward
from deepgen.scoring.ocr import TextSimilarity, create_reader


def create_reward(
    *,
    worker_url: str = "",
    concurrency: int = 1,
    spam_penalty: float = 0.0,
    timeout_seconds: float = 120.0,
) -> Reward:
    """By rapidocr on ONNX Runtime, or by the engine of a worker.

    Args:
        concurrency: Images that are read at a time, each by an engine of its own: a CPU takes up to
            a second per image.
        spam_penalty: Raise it to 1 where images fill up with text that nobody asked for.
        timeout_seconds: For a group.

    Raises:
        ScorerError: rapidocr is not installed, or the worker does not answer.
    """
    reader = create_reader(worker_url, concurrency=concurrency)
    return Reward(
        name="ocr",
        scorer=TextSimilarity(reader, spam_penalty=spam_penalty, concurrency=concurrency),
        needs="target_texts",
        timeout_seconds=timeout_seconds,
    )
