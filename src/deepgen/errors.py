"""The few exceptions that deepgen raises on purpose.

Bad arguments raise ``ValueError``, as everywhere in Python. What is left are the two things a
caller may want to tell apart: a model that cannot be loaded, and a picture that cannot be read.
"""

from __future__ import annotations


class DeepGenError(Exception):
    """Base of all errors that name something the user can mend."""


class CheckpointError(DeepGenError):
    """A model folder or file that is missing, damaged, unsafe or of another shape."""


class ImageError(DeepGenError, ValueError):
    """A picture that is missing, damaged, too large or no picture at all."""


class BenchmarkError(DeepGenError, ValueError):
    """Prompts or records of a benchmark that are missing, altered or malformed."""


class MissingPromptsError(BenchmarkError):
    """Prompts of a benchmark that are not on this machine."""
