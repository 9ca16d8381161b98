"""The cosine of CLIP embeddings of an image and its prompt."""

from __future__ import annotations

from deepgen.rl.rewards.base import Reward
from deepgen.scoring.clip import CHECKPOINT, PATTERNS, ClipSimilarity, load_clip
from deepgen.scoring.weights import find_weights


def create_reward(*, weights: str = CHECKPOINT, device: str = "cpu") -> Reward:
    """By the CLIP of a folder or hub id.

    Raises:
        ScorerError: There is no CLIP.
    """
    found = find_weights(weights, PATTERNS, wanted="a CLIP")
    scorer = ClipSimilarity(
        load_clip(found.folder, device=device),
        {"clip": found.identity},
        is_general=weights.startswith("openai/"),
    )
    return Reward(name="clip", scorer=scorer)
