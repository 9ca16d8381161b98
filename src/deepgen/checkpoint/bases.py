"""Where a conversion finds what its source lacks: model folders, or a Qwen2.5-VL's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepgen.checkpoint.configs import VLM_MODEL_TYPE
from deepgen.checkpoint.files import (
    CONFIG_NAMES,
    INDEX_NAME,
    TEMPLATE_NAME,
    WEIGHT_STEMS,
    read_json,
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
        CheckpointError: One of them is no folder.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise CheckpointError(f"--base {folder} is not a folder")
        self.folders = tuple(folders)

    def find(self, component: str) -> Path | None:
        """The first folder of a component."""
        for folder in self.folders:
            own = folder / component
            if (own / CONFIG_NAMES[component]).is_file():
                return own
            whole = component in ("vlm", "tokenizer") and is_vlm(folder)
            if whole and (folder / CONFIG_NAMES[component]).is_file():
                return folder
        return None

    def require(self, component: str) -> Path:
        """The first folder of a component.

        Raises:
            CheckpointError: None has it.
        """
        found = self.find(component)
        if found is None:
            kinds = (
                "a Qwen2.5-VL or model folder"
                if component in ("vlm", "tokenizer")
                else ("a model folder")
            )
            searched = f" ({', '.join(map(str, self.folders))} lack it)" if self.folders else ""
            raise CheckpointError(
                f"the checkpoint has no {component}{searched}; name {kinds} that has it by --base"
            )
        return found

    def json(self, name: str) -> dict[str, Any] | None:
        """The first JSON file of a name, such as the prompt template."""
        for folder in self.folders:
            if (folder / name).is_file():
                return read_json(folder / name, f"{folder.name}/{name}")
        return None

    def defaults(self) -> Mapping[str, Any]:
        """What ``model_index.json`` says of defaults."""
        index = self.json(INDEX_NAME) or {}
        return {"defaults": index["defaults"]} if isinstance(index.get("defaults"), dict) else {}

    def template(self) -> dict[str, Any] | None:
        """The prompt template."""
        return self.json(TEMPLATE_NAME)


def is_vlm(folder: Path) -> bool:
    """Whether this is the folder of a Qwen2.5-VL, as transformers saves it."""
    path = folder / "config.json"
    if not path.is_file() or (folder / INDEX_NAME).exists():
        return False
    return read_json(path, f"{folder.name}/config.json").get("model_type") == VLM_MODEL_TYPE


def copy_files(source: Path, target: Path, component: str) -> None:
    """Copy a component: its configuration, and its weights or the texts of a tokenizer."""
    target.mkdir(parents=True, exist_ok=True)
    stem = WEIGHT_STEMS.get(component)
    for path in sorted(source.iterdir()):
        is_weight = stem is not None and (
            path.name.startswith(stem)
            and path.name.endswith((".safetensors", ".safetensors.index.json"))
        )
        is_text = component == "tokenizer" and path.name in TOKENIZER_FILES
        if is_weight or is_text or path.name == CONFIG_NAMES[component]:
            shutil.copyfile(path, target / path.name)
