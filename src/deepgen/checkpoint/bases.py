"""Where a conversion finds what its source lacks: model folders, or a Qwen2.5-VL's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deepgen.checkpoint.configs import VLM_MODEL_TYPE
from deepgen.checkpoint.files import (
    CONFIG_NAMES,
    INDEX_NAME,
    WEIGHT_STEMS,
    read_json,
    refuse_links_outside,
    stored_weights,
)
from deepgen.errors import CheckpointError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
)


class Bases:
    """Folders that are searched in order.

    Raises:
        CheckpointError: One of them is no folder, or has links that lead out of it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise CheckpointError(f"--base {folder} is not a folder")
            refuse_links_outside(folder)
        self.folders = tuple(folders)

    def find(self, component: str, *, with_weights: bool = True) -> Path | None:
        """The first folder of a component; the first with weights, if any has and they are wanted.

        Args:
            component: Its name in a model folder.
            with_weights: False if its configuration is enough.
        """
        found = [own for folder in self.folders for own in _places(folder, component)]
        stem = WEIGHT_STEMS.get(component)
        if with_weights and stem:
            found.sort(key=lambda own: not has_weights(own, stem))
        return found[0] if found else None

    def require(self, component: str, *, with_weights: bool = True) -> Path:
        """The first folder of a component.

        Raises:
            CheckpointError: None has it.
        """
        found = self.find(component, with_weights=with_weights)
        if found is None:
            kinds = (
                "a Qwen2.5-VL or model folder"
                if component in ("vlm", "tokenizer")
                else "a model folder"
            )
            searched = f" (searched: {', '.join(map(str, self.folders))})" if self.folders else ""
            raise CheckpointError(
                f"there is no {component} with its configuration{searched}; name {kinds} that has "
                "it by --base"
            )
        return found

    def with_file(self, name: str) -> Path | None:
        """The first folder that has a file, such as the prompt template."""
        return next((each for each in self.folders if (each / name).is_file()), None)


def read_index(folder: Path | None) -> dict[str, Any]:
    """``model_index.json`` of a base; empty if it has none."""
    if folder is None or not (folder / INDEX_NAME).is_file():
        return {}
    return read_json(folder / INDEX_NAME, f"{folder.name}/{INDEX_NAME}")


def _places(folder: Path, component: str) -> Iterator[Path]:
    """Where a base has a component."""
    config = folder / component / CONFIG_NAMES[component]
    if config.is_file() and not (component == "tokenizer" and _is_of_text_encoder(config)):
        yield folder / component
    whole = component in ("vlm", "tokenizer") and is_vlm(folder)
    if whole and (folder / CONFIG_NAMES[component]).is_file():
        yield folder


def _is_of_text_encoder(config: Path) -> bool:
    """Whether a tokenizer is one of SD3.5's, which has them under the name of ours."""
    found = read_json(config, "tokenizer/tokenizer_config.json").get("tokenizer_class")
    return str(found).startswith(("CLIP", "T5"))


def is_vlm(folder: Path) -> bool:
    """Whether this is the folder of a Qwen2.5-VL, as transformers saves it."""
    path = folder / "config.json"
    if not path.is_file() or (folder / INDEX_NAME).exists():
        return False
    return read_json(path, f"{folder.name}/config.json").get("model_type") == VLM_MODEL_TYPE


def copy_files(source: Path, target: Path, component: str) -> None:
    """Copy a component: its configuration, and its weights or the texts of a tokenizer.

    Raises:
        CheckpointError: Its weights are missing or damaged.
    """
    target.mkdir(parents=True, exist_ok=True)
    names = [CONFIG_NAMES[component]]
    if component == "tokenizer":
        names += [name for name in TOKENIZER_FILES if (source / name).is_file()]
    elif component in WEIGHT_STEMS:
        stem = WEIGHT_STEMS[component]
        files = {each.file.name for each in stored_weights(source, stem).values()}
        single = f"{stem}.safetensors"
        names += files if files == {single} else [*files, f"{single}.index.json"]
    for name in sorted(set(names)):
        shutil.copyfile(source / name, target / name)


def has_weights(folder: Path, stem: str) -> bool:
    """Whether a folder has safetensors of that name, of one file or several."""
    return any((folder / f"{stem}.safetensors{end}").is_file() for end in ("", ".index.json"))
