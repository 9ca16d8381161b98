from __future__ import annotations

from deepgen.serve.calibration import token_limit


def test_the_limit_of_tokens_is_a_line_through_two_steps_with_memory_left() -> None:
    # 100 bytes and 10 a token, of which 90 % of 10,100 suffice for 899.
    assert token_limit((100, 1100), (400, 4100), 10_100) == 899
    # What has been there fits.
    assert token_limit((100, 1100), (400, 4100), 500) == 400
    # Peaks that do not grow, as where memory comes in blocks, give no infinite limit.
    assert token_limit((100, 2000), (400, 2000), 10_000) <= 10_000
