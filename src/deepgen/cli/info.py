"""``deepgen info``: the components of a model, from its headers alone; what an image says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from deepgen.checkpoint.configs import read_provenance
from deepgen.checkpoint.files import CONFIG_NAMES, INDEX_NAME, WEIGHT_STEMS
from deepgen.checkpoint.finding import FoundModel, find_model
from deepgen.checkpoint.headers import DTYPE_NAMES
from deepgen.checkpoint.memory import plan_for
from deepgen.cli.console import aligned, print_result
from deepgen.cli.options import MemoryChoice, QuantizationChoice, Side, Whole
from deepgen.config.checks import check_at_least
from deepgen.config.memory import GIB, MemoryPlan, check_memory, check_quantization
from deepgen.extras import install_line
from deepgen.images.formats import IMAGE_SUFFIXES
from deepgen.images.io import read_file
from deepgen.images.provenance import MEANINGS, NEWSCODES
from deepgen.images.records import statement

NO_PROVENANCE = "not recorded"

UNTRUSTED = "signingCredential.untrusted"
"""That nobody vouches for the signer; not why a manifest does not hold."""

CONNECTOR_CLASS = "stacked channel bridging"
"""Shown for connectors, whose configurations name no class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Info:
    """Show the components of a model, or what an image says of how it was made."""

    model: Positional[Annotated[str, arg(metavar="[MODEL]")]] = "mini"
    """The embedded model (mini), a model folder, a hub id with an optional @REVISION, or an image
    file."""
    memory: MemoryChoice = None
    """Say how the model fits into a GPU of so many GB (2^30 bytes), before anything is loaded."""
    quantize: QuantizationChoice = None
    """With --memory: weights in 8 or 4 bits."""
    width: Side = None
    """With --memory: of images in pixels (default: the model's)."""
    height: Side = None
    """With --memory: likewise."""
    references: Whole = None
    """With --memory: how many images are edited at once, 0 for generate (default: 1)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """With --memory: precision to compute in; auto is bfloat16, as on a GPU."""
    json: bool = False
    """Print one JSON object."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the table, or what the image says.

        Raises:
            CheckpointError: It is no model that can be used.
            ImageError: It is no image.
        """
        check_memory(self.memory, self.quantize)
        path = Path(self.model)
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            stated = {"path": self.model, **statement(read_file(path, name=self.model))}
            print_result(json.dumps(stated) if self.json else _stated(stated))
            return
        found = find_model(self.model)
        plan = self._plan(found)
        components = _components(found)
        total = {key: sum(each[key] for each in components) for key in ("parameters", "bytes")}
        report = {
            "model": self.model,
            "path": str(found.path),
            **total,
            "components": components,
            "defaults": asdict(found.defaults),
        }
        missing = self._missing_package()
        if plan is not None:
            report["memory"] = {**asdict(plan), "peak": plan.peak, "is_exact": plan.is_exact}
            report["memory"]["problem"] = missing
        text = _table(report)
        if plan is not None:
            text += f"\n{_planned(plan, self._dtype)}"
        if missing is not None:
            text += f"\nnote: {missing}"
        print_result(json.dumps(report) if self.json else text)

    @property
    def _dtype(self) -> str:
        return "bfloat16" if self.dtype == "auto" else self.dtype

    def _missing_package(self) -> str | None:
        """What --quantize lacks here; the plan may be for another machine."""
        if self.quantize is None:
            return None
        try:
            check_quantization(self.quantize)
        except ValueError as cause:
            return str(cause)
        return None

    def _plan(self, found: FoundModel) -> MemoryPlan | None:
        """What --memory would do on a GPU.

        Raises:
            ValueError: Nothing keeps to it, or an option lacks it.
        """
        if self.memory is None:
            given = (self.quantize, self.width, self.height, self.references)
            if any(each is not None for each in given) or self.dtype != "auto":
                raise ValueError(
                    "--quantize, --width, --height, --references and --dtype go with --memory here"
                )
            return None
        check_at_least("references", self.references, 0)
        found.check_sizes(self.height, self.width, [])
        return plan_for(
            found.folder,
            self.memory,
            value_bytes=4 if self._dtype == "float32" else 2,
            quantization=self.quantize,
            height=self.height,
            width=self.width,
            references=1 if self.references is None else self.references,
        )


def _planned(plan: MemoryPlan, dtype: str) -> str:
    """How a model fits, stage by stage."""
    rows: list[tuple[str, ...]] = [("GB in stage", "weights", "activations", "reserve", "together")]
    for each in plan.stages:
        # In hundredths that add up: the sum is rounded up, and activations have the difference.
        total = math.ceil(100 * (plan.reserved + each.weights + each.activations) / GIB)
        weights, reserve = (round(100 * size / GIB) for size in (each.weights, plan.reserved))
        parts = (weights, total - weights - reserve, reserve, total)
        rows.append((each.name, *(f"{part / 100:.2f}" for part in parts)))
    exact = "images are the same bits as without" if plan.is_exact else "images change slightly"
    first = f"with {plan.memory:g} GB of a GPU, in {dtype}: {plan.describe()}; {exact}"
    return "\n".join([first, *aligned(rows)])


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


def _stated(stated: Mapping[str, Any]) -> str:
    """What an image says of itself, a line each."""
    lines = [f"{stated['path']}: {stated['format']}, {stated['width']} x {stated['height']}"]
    source = stated["digital_source_type"]
    if source is None:
        lines.append("digital source type: not stated")
    else:
        meaning = MEANINGS.get(source.removeprefix(NEWSCODES))
        lines.append(f"digital source type: {source}" + (f" ({meaning})" if meaning else ""))
    lines.append(f"C2PA: {_credentials(stated['c2pa'])}")
    if stated["record"] is None:
        lines.append("how it was made: not stored")
    for name, value in (stated["record"] or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"{name}: {text}")
    return "\n".join("".join(map(_visible, line)) for line in lines)


def _credentials(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "no manifest"
    state = found["state"]
    if state == "not checked":
        return f"a manifest, not checked ({install_line('c2pa')})"
    if state == "invalid":
        reasons = [each for each in found["problems"] if each != UNTRUSTED]
        return f"invalid ({', '.join(reasons)})"
    signer = " of ".join(each for each in (found["signer"], found["issuer"]) if each)
    known = "" if state == "trusted" else ", who is on no trust list"
    return f"the file is as signed by {signer or 'somebody unnamed'}{known}"


def _visible(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]
