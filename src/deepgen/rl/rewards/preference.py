"""The win rate of an image against the others of its group, by a judge (Pref-GRPO)."""

from __future__ import annotations

from deepgen.rl.rewards.base import Reward
from deepgen.scoring.preference import Pairs, create_scorer


def create_reward(
    *,
    url: str,
    model: str,
    question: str = "",
    pairs: Pairs = "all",
    both_orders: bool = False,
    concurrency: int = 64,
    groups: int = 8,
    timeout_seconds: float = 90.0,
) -> Reward:
    """By a vision-language model behind an OpenAI-compatible server.

    Its mean over a group is always 1/2, so it cannot show progress.

    Args:
        concurrency: Requests in flight.
        groups: Groups at a time.
        timeout_seconds: For one request.

    Raises:
        ScorerError: The settings cannot be used.
    """
    scorer = create_scorer(
        url=url,
        model=model,
        question=question,
        pairs=pairs,
        both_orders=both_orders,
        concurrency=concurrency,
        timeout_seconds=timeout_seconds,
    )
    return Reward(
        name="preference",
        scorer=scorer,
        is_pairwise=True,
        concurrency=groups,
        # Its requests are repeated one by one, and several rounds of them make up a group.
        attempts=1,
        timeout_seconds=6 * timeout_seconds,
    )
