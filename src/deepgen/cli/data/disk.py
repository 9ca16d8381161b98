"""Failures of the disk, which commands that write data sets report in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepgen.errors import DataError


@contextmanager
def reporting_disk_failures(folder: Path) -> Iterator[None]:
    """Report a failure of the disk in one line; finished files stay.

    Raises:
        DataError: A file or folder cannot be read or written.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror or error}; fix that, and the same "
            "command resumes"
        ) from error
