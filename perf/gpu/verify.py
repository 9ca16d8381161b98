"""Plan ``verify``: whether results on this device are right.

Each row has figures, the bound of each, and ``ok``. The rows without reference numbers use toy
models with random weights, so that the plan takes two minutes; stock diffusers is compared with at
full width.
"""

from __future__ import annotations

from gpu import reference, verify_inference, verify_training
from gpu.plan import Plan

PLAN = Plan(
    name="verify",
    tasks=(*reference.TASKS, *verify_inference.TASKS, *verify_training.TASKS),
)
