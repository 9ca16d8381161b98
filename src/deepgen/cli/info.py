"""``deepgen info``: the components of a model, from its headers alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from deepgen.checkpoint.configs import read_provenance
from deepgen.checkpoint.files import CONFIG_NAMES, INDEX_NAME, WEIGHT_STEMS
from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.checkpoint.headers import DTYPE_NAMES
from deepgen.cli.console import aligned, print_result

NO_PROVENANCE = "not recorded"

CONNECTOR_CLASS = "stacked channel bridging"
"""Shown for connectors, whose configurations name no class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Info:
    """Show the components of a model."""

    model: Positional[Annotated[str, arg(metavar="[MODEL]")]] = "mini"
    """The embedded model (mini), a model folder, or a hub id with an optional @REVISION."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the table."""
        found = find_model(self.model)
        components = _components(found)
        total = {key: sum(each[key] for each in components) for key in ("parameters", "bytes")}
        report = {
            "model": self.model,
            "path": str(found.path),
            **total,
            "components": components,
            "defaults": asdict(found.defaults),
        }
        print_result(json.dumps(report) if self.json else _table(report))


def _components(found: FoundModel) -> list[dict[str, Any]]:
    """One entry per folder of the model; those without weights have zero parameters."""
    provenance = read_provenance(found.folder.json(INDEX_NAME))
    components = []
    for name in CONFIG_NAMES:
        tensors = list(found.folder.stored(name).values()) if name in WEIGHT_STEMS else []
        dtypes = sorted({DTYPE_NAMES[tensor.dtype] for tensor in tensors})
        components.append(
            {
                "name": name,
                "class": _class_name(name, found.folder.config(name)),
                "parameters": sum(tensor.size for tensor in tensors),
                "dtype": "+".join(dtypes) or None,
                "bytes": sum(tensor.bytes for tensor in tensors),
                "provenance": provenance.get(name),
            }
        )
    return components


def _class_name(component: str, config: Mapping[str, Any]) -> str:
    """The class named in a component's configuration; each library has its own key for it."""
    architectures = config.get("architectures")
    first = architectures[0] if isinstance(architectures, list) and architectures else None
    named = config.get("_class_name") or config.get("tokenizer_class") or first
    if isinstance(named, str):
        return named
    return CONNECTOR_CLASS if component == "connector" else "not recorded"


def _table(report: Mapping[str, Any]) -> str:
    """The report as aligned columns."""
    rows = [("component", "class", "parameters", "dtype", "bytes", "provenance")]
    for each in report["components"]:
        stored = (f"{each['parameters']:,}", each["dtype"], f"{each['bytes']:,}")
        weights = stored if each["dtype"] else ("-", "-", "-")
        origin = each["provenance"] or NO_PROVENANCE
        rows.append((each["name"], each["class"], *weights, origin))
    rows.append(("total", "", f"{report['parameters']:,}", "", f"{report['bytes']:,}", ""))
    defaults = ", ".join(
        f"{name} {value}"
        for name, value in report["defaults"].items()
        if name != "edit_negative_prompt" and value is not None
    )
    shown = [f"{report['model']} ({report['path']})", *aligned(rows), f"defaults: {defaults}"]
    # These texts come from the model's files, so control characters are escaped.
    return "\n".join("".join(map(_visible, line)) for line in shown)


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
