from __future__ import annotations

import random
from collections import Counter

import httpx2

from tests.serve.fuzzing import complaint, make_case
from tests.serve.stub import StubEngine, running


def test_random_requests_are_fulfilled_or_refused_by_an_error_object() -> None:
    statuses: Counter[int] = Counter()
    with running(StubEngine()) as here, httpx2.Client(timeout=20) as client:
        for seed in range(100):
            case = make_case(random.Random(seed))
            status, found = complaint(here.url, case, client)
            assert found is None, (seed, case, found)
            statuses[status] += 1
    # Neither everything nor nothing is refused.
    assert statuses[200] >= 5
    assert statuses[400] >= 30
