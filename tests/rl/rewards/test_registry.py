from __future__ import annotations

from importlib import import_module

import pytest

from deepgen.errors import ScorerError
from deepgen.rl.rewards.registry import REWARDS, create_reward, create_rewards


@pytest.mark.parametrize("name", REWARDS)
def test_every_listed_reward_has_a_module_that_creates_it(name: str) -> None:
    assert callable(import_module(f"deepgen.rl.rewards.{name}").create_reward)


def test_an_unknown_reward_names_the_known_ones() -> None:
    with pytest.raises(ScorerError, match=f"there is no reward 'beauty'; .*{next(iter(REWARDS))}"):
        create_reward("beauty")


def test_other_options_than_a_reward_takes_are_one_line() -> None:
    with pytest.raises(ScorerError, match=r"the reward remote cannot be created: .*; it takes url"):
        create_rewards({"remote": {"address": "http://localhost"}})
