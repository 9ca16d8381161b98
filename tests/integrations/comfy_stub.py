"""What the node pack uses of ComfyUI's V3 interface, written from its documentation.

https://docs.comfy.org/custom-nodes/v3_migration
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Input:
    """An input of a schema; refuses what the real ones do not know."""

    KNOWN: frozenset[str] = frozenset(
        {"display_name", "optional", "tooltip", "lazy", "default", "min", "max", "step"}
        | {"multiline", "dynamic_prompts", "options", "control_after_generate", "template"}
    )

    def __init__(self, io_type: str, name: str, **options: Any) -> None:
        unknown = options.keys() - self.KNOWN
        assert not unknown, unknown
        self.io_type, self.id, self.options = io_type, name, options


@dataclass
class Output:
    """An output of a schema."""

    io_type: str
    display_name: str | None = None


def io_type(name: str) -> Any:
    """As ``io.Image``: a type with an input and an output."""

    def make_input(id: str, **options: Any) -> Input:
        return Input(name, id, **options)

    def make_output(display_name: str | None = None) -> Output:
        return Output(name, display_name)

    return SimpleNamespace(io_type=name, Input=make_input, Output=make_output)


@dataclass(kw_only=True)
class Schema:
    """A node's inputs and outputs."""

    node_id: str
    display_name: str
    category: str
    description: str = ""
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


class NodeOutput:
    """What a node returns."""

    def __init__(self, *results: Any) -> None:
        self.result = results


class ComfyNode:
    """Base of nodes."""


class ComfyExtension:
    """Base of packs."""


class ComfyAPISync:
    """Progress of the running node."""

    steps: list[tuple[float, float]] = []  # noqa: RUF012

    def __init__(self) -> None:
        self.execution = SimpleNamespace(set_progress=self._set)

    def _set(self, value: float, max_value: float, node_id: str | None = None) -> None:
        self.steps.append((value, max_value))


def template_prefix(input: Input, prefix: str, min: int, max: int) -> Any:
    """An input that grows: ``PREFIX0``, ``PREFIX1``, ..."""
    assert 0 <= min <= max <= 100
    return SimpleNamespace(input=input, prefix=prefix, min=min, max=max)


def install(models: Path, put: Callable[[Any, str, Any], None]) -> None:
    """Make the modules importable.

    Args:
        models: ComfyUI's folder of models.
        put: ``monkeypatch.setitem``.
    """
    names = {"Image": "IMAGE", "Mask": "MASK", "Latent": "LATENT", "Int": "INT"}
    names |= {"Float": "FLOAT", "String": "STRING", "Combo": "COMBO"}
    types = {name: io_type(kind) for name, kind in names.items()}
    grow = SimpleNamespace(
        Input=lambda id, **options: Input("COMFY_AUTOGROW_V3", id, **options),
        TemplatePrefix=template_prefix,
    )
    io = SimpleNamespace(
        **types,
        Custom=io_type,
        Autogrow=grow,
        Schema=Schema,
        NodeOutput=NodeOutput,
        ComfyNode=ComfyNode,
    )
    latest = ModuleType("comfy_api.latest")
    vars(latest).update(
        ComfyAPISync=ComfyAPISync, ComfyExtension=ComfyExtension, io=io, __path__=[]
    )
    folders = ModuleType("folder_paths")
    vars(folders).update(
        models_dir=str(models),
        get_filename_list=lambda kind: ["style.safetensors"],
        get_full_path_or_raise=lambda kind, name: str(models / kind / name),
    )
    parent = ModuleType("comfy_api")
    vars(parent).update(latest=latest, __path__=[])
    for module in (parent, latest, folders):
        put(sys.modules, module.__name__, module)
