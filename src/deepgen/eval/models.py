"""Models and workers that the scorers of several benchmarks use."""

from __future__ import annotations

from deepgen.errors import ScorerError
from deepgen.eval.scorer import ScoringOptions
from deepgen.scoring import clip
from deepgen.scoring.clip import Clip, load_clip
from deepgen.scoring.remote import Worker, WorkerConfig
from deepgen.scoring.weights import find_weights

NO_CLIP = "none"
"""Instead of a CLIP: CVTG-2K's words without CLIPScore."""


def find_clip(options: ScoringOptions) -> tuple[Clip, str]:
    """The CLIP that the user named, or OpenAI's, and its identity.

    Raises:
        ScorerError: It cannot be loaded, or ``none`` was named where one is needed.
    """
    if options.clip == NO_CLIP:
        raise ScorerError(
            f"colours are classified by CLIP; omit --clip {NO_CLIP}, or name a folder"
        )
    weights = find_weights(options.clip or clip.CHECKPOINT, clip.PATTERNS, wanted="a CLIP (--clip)")
    return load_clip(weights.folder, device=options.device), weights.identity


def find_worker(options: ScoringOptions) -> Worker:
    """The worker at the address that the user named.

    Raises:
        ScorerError: It is not a URL.
    """
    try:
        return Worker(WorkerConfig(base_url=str(options.worker_url)))
    except ValueError as cause:
        raise ScorerError(f"the worker cannot be reached: {cause}") from None
