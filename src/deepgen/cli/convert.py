"""``deepgen convert``: native training checkpoints and GGUF files to model folders, and back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, UseAppendAction, arg

from deepgen.checkpoint.bases import Bases, is_vlm
from deepgen.checkpoint.files import INDEX_NAME
from deepgen.checkpoint.gguf.headers import holds_gguf
from deepgen.checkpoint.hub import EMBEDDED, HUB_ID, resolve
from deepgen.checkpoint.pickles import check_archive, check_no_shards
from deepgen.cli.console import print_line, print_result
from deepgen.cli.options import Number
from deepgen.errors import CheckpointError, shown

Form = Annotated[
    Literal["diffusers", "native", "gguf"] | None,
    arg(metavar="{diffusers,native,gguf}", help_behavior_hint=""),
]
Quantization = Annotated[
    Literal["f16", "q8_0", "q4_k"] | None,
    arg(metavar="{f16,q8_0,q4_k}", help_behavior_hint=""),
]

BLOCK_VALUES = {"f16": 1, "q8_0": 32, "q4_k": 256}
"""Values of a row that share their scales in GGUF files."""

FILE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".gguf", ".safetensors")
"""Of files, which are no models of a hub."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Convert:
    """Convert a training checkpoint or GGUF files to a model folder, or back.

    A native checkpoint (.pt, .pth) has no VLM, VAE, scheduler and tokenizer, and GGUF files have a
    DiT or a VLM; --base names folders with the rest. A Qwen2.5-VL folder and an SD3.5 folder as
    --base give an untrained model.
    """

    source: Positional[Annotated[Path, arg(metavar="SRC")]]
    """A native checkpoint, a model (mini, a folder or a hub id), a GGUF file or a folder of such,
    or a Qwen2.5-VL."""
    target: Positional[Annotated[Path, arg(metavar="DST")]]
    """What is written: a folder, of GGUF files for --to gguf, or a .pt file for --to native."""
    to: Form = None
    """Form of DST (default: diffusers, or native if SRC is a model folder)."""
    base: Annotated[UseAppendAction[tuple[Path, ...]], arg(metavar="DIR")] = ()
    """Where parts are that SRC lacks: a model (mini, a folder or a hub id) or a Qwen2.5-VL folder.
    With --to native, the VLM that adapters are for; without it the VLM is written in full."""
    lora_alpha: Number = None
    """Alpha of the checkpoint's adapters, which it does not hold; 128 for the released model."""
    type: Quantization = None
    """Of the matrices in GGUF files (default: f16)."""
    overwrite: bool = False
    """Replace an existing DST."""
    json: bool = False
    """Print a JSON object instead of the path."""
    debug: bool = False
    """Print the traceback of an error."""

    def run(self) -> None:
        """Check what can be checked without weights, convert, and print the path.

        Raises:
            CheckpointError: Something cannot be read, or DST not be written.
            ValueError: An option cannot be used.
        """
        bases = tuple(map(_found, self.base))
        replace(self, source=_found(self.source), base=bases)._convert()

    def _convert(self) -> None:
        if self.lora_alpha is not None and not 0 < self.lora_alpha < math.inf:
            raise ValueError(f"--lora-alpha must be a positive number, got {self.lora_alpha}")
        if not self.source.exists():
            raise CheckpointError(f"there is no {self.source}")
        self._check_target()
        Bases(self.base)
        if self.source.is_dir():
            check_no_shards(self.source)
        if self.type is not None and self.to != "gguf":
            raise ValueError("--type is for --to gguf")
        if (self.source / INDEX_NAME).is_file() and self.to == "gguf":
            summary = self._to_gguf()
        elif (self.source / INDEX_NAME).is_file():
            self._expect("native", own="diffusers")
            if self.lora_alpha is not None:
                raise ValueError("--lora-alpha is for native checkpoints; a folder needs none")
            if self.target.is_dir():
                raise CheckpointError(f"{self.target} is a folder; a native checkpoint is a file")
            summary = self._to_native()
        elif holds_gguf(self.source):
            self._expect("diffusers", own="gguf")
            summary = self._from_gguf()
        elif self.source.is_dir():
            self._check_vlm()
            self._expect("diffusers")
            summary = self._to_untrained()
        else:
            check_archive(self.source)
            self._expect("diffusers", own="native")
            summary = self._to_folder()
        if self.json:
            print_result(json.dumps({"path": str(self.target), **summary}))
        else:
            print_result(str(self.target))

    def _expect(
        self,
        form: Literal["diffusers", "native"],
        own: Literal["diffusers", "native", "gguf"] | None = None,
    ) -> None:
        """Refuse another --to than the form that SRC, which has a form of its own, becomes.

        Raises:
            ValueError: With what to do instead.
        """
        if self.to in (None, form):
            return
        if self.to == own:
            raise ValueError(
                f"--to {self.to}: {self.source} has that form already; leave --to out, or give "
                f"--to {form}"
            )
        raise ValueError(
            f"--to {self.to} is for a model folder: leave --to out and convert {self.source} to a "
            f"folder first, then that folder with --to {self.to}"
        )

    def _check_vlm(self) -> None:
        """Refuse a folder that is neither a model nor a VLM.

        Raises:
            CheckpointError: It is.
        """
        if not is_vlm(self.source):
            raise CheckpointError(
                f"{self.source} is neither a model folder ({INDEX_NAME}) nor a Qwen2.5-VL "
                "(config.json of that model type)"
            )

    def _check_target(self) -> None:
        """Refuse to replace what was not to be replaced, or what is read.

        Raises:
            CheckpointError: Which.
        """
        if not os.path.lexists(self.target):
            return
        is_empty = self.target.is_dir() and not any(self.target.iterdir())
        if not self.overwrite and not is_empty:
            raise CheckpointError(f"{self.target} exists; choose another DST or add --overwrite")
        target = self.target.resolve()
        for each in (self.source, *self.base):
            if each.resolve().is_relative_to(target):
                raise CheckpointError(f"DST {self.target} would replace {each}, which is read")

    def _to_folder(self) -> dict[str, object]:
        from deepgen.checkpoint.conversion import native_to_folder

        done = native_to_folder(
            self.source,
            self.target,
            bases=self.base,
            lora_alpha=self.lora_alpha,
            overwrite=self.overwrite,
        )
        print_line(f"tensors of {self.source}: {_counts(done.tensors)}")
        print_line(f"merged adapters: {done.adapters}")
        for name, count in done.left_out.items():
            print_line(f"left out: {shown(name)} with {count:,} tensors, beside the model's")
        for component, folder in done.taken.items():
            print_line(f"{component}: from {folder}")
        taken = {component: str(folder) for component, folder in done.taken.items()}
        return {
            "tensors": dict(done.tensors),
            "adapters": done.adapters,
            "bases": taken,
            "left_out": dict(done.left_out),
        }

    def _to_native(self) -> dict[str, object]:
        from deepgen.checkpoint.native_export import folder_to_native

        done = folder_to_native(self.source, self.target, bases=self.base, overwrite=self.overwrite)
        print_line(f"tensors: {_counts(done.tensors)}")
        if done.rank is not None:
            print_line(f"adapters of rank {done.rank}: --lora-alpha {done.lora_alpha:g} reads them")
        return {"tensors": dict(done.tensors), "rank": done.rank, "lora_alpha": done.lora_alpha}

    def _to_gguf(self) -> dict[str, object]:
        if self.lora_alpha is not None or self.base:
            raise ValueError("--lora-alpha and --base are not for --to gguf; leave them out")
        from deepgen.checkpoint.gguf.writing import folder_to_gguf

        done = folder_to_gguf(
            self.source, self.target, type=self.type or "f16", overwrite=self.overwrite
        )
        print_line(f"tensors: {_counts(done.tensors)}")
        print_line(f"types: {_counts(done.types)}")
        if done.fallen_back:
            print_line(
                f"note: {self.type} takes rows of whole blocks of "
                f"{BLOCK_VALUES[self.type or 'f16']} values; matrices with other rows have another "
                f"type: {_counts(done.fallen_back)}"
            )
        return {
            "tensors": dict(done.tensors),
            "types": dict(done.types),
            "fallen_back": dict(done.fallen_back),
        }

    def _from_gguf(self) -> dict[str, object]:
        if self.lora_alpha is not None:
            raise ValueError("--lora-alpha is for native checkpoints; GGUF files need none")
        from deepgen.checkpoint.gguf.conversion import gguf_to_folder

        done = gguf_to_folder(self.source, self.target, bases=self.base, overwrite=self.overwrite)
        print_line(f"tensors of {self.source}: {_counts(done.tensors)}")
        for component, folder in done.taken.items():
            print_line(f"{component}: from {folder}")
        taken = {component: str(folder) for component, folder in done.taken.items()}
        return {"tensors": dict(done.tensors), "bases": taken}

    def _to_untrained(self) -> dict[str, object]:
        from deepgen.checkpoint.starting import untrained_folder

        config = untrained_folder(
            self.source, self.target, bases=self.base, overwrite=self.overwrite
        )
        print_line(
            f"untrained: the bridge is new ({config.num_queries} think tokens, "
            f"{config.num_hidden_layers} layers); deepgen train pretrain --model {self.target}"
        )
        return {"untrained": True}


def _found(path: Path) -> Path:
    """A path, or the folder of the model that it names where no such file exists.

    Raises:
        CheckpointError: It is a hub id, and needs a download that fails.
    """
    name = str(path)
    is_hub_id = HUB_ID.fullmatch(name.partition("@")[0]) and path.suffix not in FILE_SUFFIXES
    if path.exists() or not (name == EMBEDDED or is_hub_id):
        return path
    return resolve(name)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
