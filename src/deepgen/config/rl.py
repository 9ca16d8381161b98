"""Settings of reinforcement learning (DeepGen paper, section 4.3, MR-GRPO); no torch in here."""

from __future__ import annotations

from typing import Literal

Sampler = Literal["cps", "flow_sde", "dance_sde"]
"""How noise is added in a rollout, see ``flow/sde.py``."""

Scaling = Literal["cps", "gauss", "equal"]
"""How much each step counts in the log-probability."""
