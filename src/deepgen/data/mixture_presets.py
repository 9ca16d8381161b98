"""Mixtures that come with the package, the paper's among them."""

from __future__ import annotations

from importlib.resources import files

from deepgen.errors import DataError

PRESETS = ("stage1_paper", "stage2_paper", "stage2_public")
"""Names of the files in ``mixtures``."""


def preset_text(name: str) -> str:
    """The file of a mixture that comes with the package.

    Raises:
        DataError: There is no such preset.
    """
    if name not in PRESETS:
        raise DataError(f"there is no mixture {name!r}; choose one of {', '.join(PRESETS)}")
    return (files("deepgen.data") / "mixtures" / f"{name}.yaml").read_text("utf-8")
