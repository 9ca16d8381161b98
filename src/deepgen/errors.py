"""The few exceptions that deepgen raises on purpose.

Invalid arguments raise ``ValueError``, as everywhere in Python. These classes are what a caller may
want to handle: a model that cannot be loaded, a data set, benchmark or scorer that cannot be used,
an image that cannot be read, and a training run that cannot continue.
"""

from __future__ import annotations

from typing import Literal

ImageFault = Literal["missing", "io", "empty", "not_an_image", "too_large", "damaged", "mode"]
"""Why an image cannot be read, in one word, for counting."""


LONGEST_MESSAGE = 4000
"""Characters; the rest is cut out of the middle. Some messages quote what they found."""

LONGEST_VALUE = 80


class DeepGenError(Exception):
    """Base of all errors that the user can fix; the message says how."""

    def __init__(self, message: str = "") -> None:
        super().__init__(shortened(message))


class UsageError(DeepGenError, ValueError):
    """A command line that cannot be used."""


class FolderInUseError(DeepGenError, ValueError):
    """A folder that another process is writing at this moment."""


class CheckpointError(DeepGenError):
    """A model folder or file that is missing, damaged, unsafe or of another shape."""


class DataError(DeepGenError, ValueError):
    """A data set that is missing, incomplete, damaged or of another kind."""


class ImageError(DeepGenError, ValueError):
    """An image that is missing, damaged, too large or not an image."""

    def __init__(self, message: str, *, reason: ImageFault = "damaged") -> None:
        super().__init__(message)
        self.reason = reason


class TrainingError(DeepGenError):
    """A training run that cannot continue; its last checkpoint is intact."""


class StoppedError(TrainingError):
    """A training run that stopped on request, after saving a checkpoint."""


class ScorerError(DeepGenError):
    """A judge, worker or scorer that cannot be used: every request to it would fail."""


class BenchmarkError(DeepGenError, ValueError):
    """Prompts or records of a benchmark that are missing, altered or malformed."""


class MissingPromptsError(BenchmarkError):
    """Prompts of a benchmark that are not on this machine."""


def shortened(message: str, limit: int = LONGEST_MESSAGE) -> str:
    """A message of at most ``limit`` characters, without its middle where it has more."""
    half = (limit - 5) // 2
    return message if len(message) <= limit else f"{message[:half]} ... {message[-half:]}"


def shown(value: object) -> str:
    """A value from elsewhere, as a message quotes it: its notation, shortened."""
    try:
        # Of a long text or list only the beginning is formatted.
        part = value[:1000] if isinstance(value, str | bytes | list | tuple) else value
        return shortened(repr(part), LONGEST_VALUE)
    except ValueError:
        # A whole number of thousands of digits.
        return type(value).__name__


def reason_of(cause: Exception) -> str:
    """Why a file cannot be read, without the numbers and notation of the system."""
    if isinstance(cause, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return " ".join(str(cause).split()) or type(cause).__name__
