"""The few exceptions that deepgen raises on purpose.

Bad arguments raise ``ValueError``, as everywhere in Python. What is left are the things a caller
may want to tell apart: a model that cannot be loaded, a picture that cannot be read, and a judge or
another scorer that cannot be used at all.
"""

from __future__ import annotations


class DeepGenError(Exception):
    """Base of all errors that name something the user can mend."""


class CheckpointError(DeepGenError):
    """A model folder or file that is missing, damaged, unsafe or of another shape."""


class ImageError(DeepGenError, ValueError):
    """A picture that is missing, damaged, too large or no picture at all."""


class ScorerError(DeepGenError):
    """A judge, worker or scorer that cannot be used: nothing it would be asked could succeed."""
