"""``deepgen data mixture``: a mixture's file beside its data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from deepgen.cli.console import print_line, print_result
from deepgen.data.mixture_presets import PRESETS
from deepgen.errors import DataError

if TYPE_CHECKING:
    MixtureName = str
else:
    MixtureName = Literal[PRESETS]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureFile:
    """Write a mixture that comes with deepgen, the paper's among them, beside its data sets."""

    preset: Positional[Annotated[MixtureName, arg(metavar="{" + ",".join(PRESETS) + "}")]]
    """Which mixture."""
    folder: Positional[Annotated[Path, arg(metavar="DIR")]] = Path()
    """Folder that holds the data sets, each imported under the name of its importer."""
    overwrite: bool = False
    """Replace an existing file."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Write the file, and print its path and which of its data sets are there."""
        from deepgen.data.mixture import read_mixture
        from deepgen.data.mixture_presets import preset_text

        path = self.folder / f"{self.preset}.yaml"
        if not self.folder.is_dir():
            raise DataError(f"there is no folder {self.folder}; name that of the data sets")
        if path.exists() and not self.overwrite:
            raise ValueError(f"{path} exists; add --overwrite to replace it")
        path.write_text(preset_text(self.preset), encoding="utf-8")
        sources = read_mixture(path).sources
        absent = {
            each.data: each.optional for each in sources if not (self.folder / each.data).exists()
        }
        for name, is_optional in absent.items():
            kind = "optional" if is_optional else "required"
            print_line(f"{name} is not in {self.folder} ({kind})")
        print_result(str(path))
