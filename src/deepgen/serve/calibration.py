"""How many tokens fit into the memory of a device: measured once, when the engine starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deepgen.pipeline.engine import Engine, Job

KEPT_FREE = 0.1
"""Of the memory that the weights leave."""

MEASURED_STEPS = 3
"""Of each image: the first step comes with its conditioning, the last with its decoding."""


def token_limit(small: tuple[int, int], large: tuple[int, int], free: int) -> int:
    """Tokens of a step for which memory suffices: a line through two measured steps.

    Args:
        small: Tokens of a step, and the bytes that it took at its peak.
        large: The same of a step with more tokens.
        free: Bytes for steps and what is beside them.

    Returns:
        At least the larger number of tokens, which has been there.

    With no tokens and bytes as ``small`` all of the large step's memory counts as its tokens'.
    """
    (few, low), (many, high) = small, large
    per_token = max(1.0, (high - low) / max(1, many - few))
    fixed = max(0.0, low - per_token * few)
    return max(many, int(((1 - KEPT_FREE) * free - fixed) / per_token))


def calibrated_tokens(engine: Engine, job: Callable[[int, int], Job], side: int) -> int:
    """What the limit of tokens should be on this GPU.

    Args:
        engine: Idle; on a CUDA device.
        job: One of a height and a width in pixels, of ``MEASURED_STEPS`` steps.
        side: Of the default size; twice as much is measured too, where memory suffices.

    Raises:
        RuntimeError: An image failed; the one of the default size for whatever reason.
    """
    import torch

    device = engine.device
    measured, decoding = [(0, 0)], 0
    for height in (side, 2 * side):
        each = job(height, height)
        engine.submit(each)
        peaks, failed = [], None
        while not engine.is_idle:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            failed = next((each for each in engine.tick() if each.kind == "failed"), failed)
            peaks.append(torch.cuda.max_memory_allocated(device) - before)
        if failed and failed.code == "out_of_memory" and len(measured) > 1:
            break
        if failed:
            raise RuntimeError(f"the model cannot generate: {failed.message}")
        measured.append((each.tokens, peaks[1]))
        decoding = max(decoding, peaks[-1])
    unused, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return token_limit(measured[-2], measured[-1], unused + cached - decoding)
