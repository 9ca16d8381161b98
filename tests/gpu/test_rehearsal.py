from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from gpu.plan import PLANS, load_plan
from gpu.rehearse import rehearse

from tests.shared import HERE


@pytest.mark.parametrize("name", PLANS)
def test_every_plan_is_there_under_its_name(name: str) -> None:
    assert load_plan(name).name == name


@pytest.mark.slow
def test_all_plans_run_from_the_bundle_with_the_oldest_versions_and_without_network() -> None:
    shared = os.environ.get("DEEPGEN_SHARED")
    record = rehearse(
        sys.executable,
        HERE.parent / "build" / "rehearsal",
        PLANS,
        Path(shared) / "golden" if shared else None,
    )
    assert {name: plan["returncode"] for name, plan in record["plans"].items()} == dict.fromkeys(
        PLANS, 0
    )
