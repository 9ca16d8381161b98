"""The few exceptions that deepgen raises on purpose.

Bad arguments raise ``ValueError``, as everywhere in Python. What is left are the things a caller
may want to tell apart: a model that cannot be loaded, a data set that cannot be used, an image
that cannot be read, a training run that cannot go on, and a judge or another scorer that cannot be
used at all.
"""

from __future__ import annotations

from typing import Literal

Unreadable = Literal["missing", "io", "empty", "not_an_image", "too_large", "damaged"]
"""Why an image cannot be read, in one word, for counting."""


class DeepGenError(Exception):
    """Base of all errors that name something the user can mend."""


class CheckpointError(DeepGenError):
    """A model folder or file that is missing, damaged, unsafe or of another shape."""


class DataError(DeepGenError, ValueError):
    """A data set that is missing, incomplete, damaged or of another kind."""


class ImageError(DeepGenError, ValueError):
    """An image that is missing, damaged, too large or no image at all."""

    def __init__(self, message: str, *, reason: Unreadable = "damaged") -> None:
        super().__init__(message)
        self.reason = reason


class TrainingError(DeepGenError):
    """A training run that cannot go on; what was saved before is whole."""


class StoppedError(TrainingError):
    """A training run that was asked to stop, and has saved where it is."""


class ScorerError(DeepGenError):
    """A judge, worker or scorer that cannot be used: nothing it would be asked could succeed."""


class BenchmarkError(DeepGenError, ValueError):
    """Prompts or records of a benchmark that are missing, altered or malformed."""


class MissingPromptsError(BenchmarkError):
    """Prompts of a benchmark that are not on this machine."""
