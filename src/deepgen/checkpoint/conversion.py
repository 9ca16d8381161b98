"""Native training checkpoints to model folders.

A native checkpoint has the DiT, the bridge and the VLM's adapters, or its full weights; everything
else is taken from base folders. Every tensor is accounted for.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepgen.checkpoint.bases import Bases, copy_files, read_index
from deepgen.checkpoint.configs import (
    read_bridge,
    read_defaults,
    read_provenance,
    read_rope_precision,
    write_bridge,
    write_index,
)
from deepgen.checkpoint.files import (
    CONFIG_NAMES,
    INDEX_NAME,
    TEMPLATE_NAME,
    WEIGHT_STEMS,
    read_json,
    stored_weights,
)
from deepgen.checkpoint.folder import load_on_meta
from deepgen.checkpoint.headers import HasShape
from deepgen.checkpoint.pickles import check_archive, unpack
from deepgen.checkpoint.vlm_merging import VLMPlan, plan_vlm
from deepgen.checkpoint.writing import atomic_folder, write_json
from deepgen.conditioning.prompts import PromptTemplate

UNPACKED = ".native"
"""Folder for what was read from a pickle, inside the one that is being written."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion did."""

    tensors: Mapping[str, int]
    """Number of tensors of the source, by component."""
    taken: Mapping[str, Path]
    """Components that came from a base, and from which; also ``defaults`` and ``template``."""
    adapters: int
    """Adapters merged into the VLM; those that change nothing are not counted."""
    left_out: Mapping[str, int]
    """Entries of the file beside the model's that have tensors, such as an optimizer's."""


def native_to_folder(
    source: Path,
    target: Path,
    *,
    bases: Sequence[Path] = (),
    lora_alpha: float | None = None,
    overwrite: bool = False,
) -> Converted:
    """Make a model folder of a native checkpoint.

    Tensors keep the dtype that they are stored in; merged ones get the base's.

    Args:
        source: A file of ``torch.save``.
        target: The folder; it appears complete or not at all.
        bases: Where to find what the checkpoint lacks, searched in order.
        lora_alpha: Alpha of the adapters, which the checkpoint does not hold.
        overwrite: Replace an existing model folder.

    Raises:
        CheckpointError: The checkpoint is unusable, something is missing, or does not fit.
    """
    outline = check_archive(source)
    own = outline.parts
    found = Bases(bases)
    origins = _origins(found, own)
    vlm = _plan_vlm(own, origins, lora_alpha) if "vlm" in own else None
    with atomic_folder(target, overwrite=overwrite) as folder:
        unpack(source, folder / UNPACKED)
        adapters = 0
        for component in WEIGHT_STEMS:
            unpacked = folder / UNPACKED / component
            if component not in own:
                copy_files(origins[component], folder / component, component)
            elif component == "vlm" and vlm is not None:
                stored = stored_weights(unpacked, WEIGHT_STEMS["vlm"])
                adapters = vlm.write(stored, folder / "vlm")
            else:
                unpacked.rename(folder / component)
                write_json(folder / component / "config.json", _config(component, origins, own))
        shutil.rmtree(folder / UNPACKED)
        made = dict.fromkeys(own, f"converted from {source.name}")
        taken = copy_rest(found, folder, origins, made)
        # Names and shapes of all tensors, and what all configurations say.
        load_on_meta(folder, name=target)
    return Converted(
        {component: len(own.get(component, ())) for component in WEIGHT_STEMS},
        {name: each for name, each in taken.items() if name not in own or name == "vlm"},
        adapters,
        outline.left_out,
    )


def copy_rest(
    bases: Bases, folder: Path, origins: Mapping[str, Path], made: Mapping[str, str]
) -> dict[str, Path]:
    """Write what has no weights: scheduler, tokenizer, template and index.

    Args:
        bases: Where they are.
        folder: The model folder.
        origins: Components by the folder that they were copied from.
        made: Where the other components come from, in words.

    Returns:
        ``origins`` with what was added.
    """
    taken = {**origins, "scheduler": bases.require("scheduler")}
    # The tokenizer belongs to the VLM: its own, if it lies beside it.
    beside = Bases(tuple(each for each in (_root(origins.get("vlm")),) if each))
    taken["tokenizer"] = beside.find("tokenizer") or bases.require("tokenizer")
    for component in ("scheduler", "tokenizer"):
        copy_files(taken[component], folder / component, component)
    template, index = bases.with_file(TEMPLATE_NAME), bases.with_file(INDEX_NAME)
    values = PromptTemplate().to_json()
    if template is not None:
        taken["template"] = template
        values = read_json(template / TEMPLATE_NAME, f"{template.name}/{TEMPLATE_NAME}")
    write_json(folder / TEMPLATE_NAME, values)
    if index is not None and "defaults" in read_index(index):
        taken["defaults"] = index
    provenance = {
        component: text
        for component, place in origins.items()
        if (text := read_provenance(read_index(_root(place))).get(component))
    }
    tokenizer = read_json(folder / "tokenizer" / CONFIG_NAMES["tokenizer"], "tokenizer_config.json")
    tokenizer_class = str(tokenizer.get("tokenizer_class", "Qwen2Tokenizer"))
    defaults = read_defaults(read_index(index))
    write_json(folder / INDEX_NAME, write_index(tokenizer_class, defaults, {**provenance, **made}))
    return taken


def _root(place: Path | None) -> Path | None:
    """The base that a component's folder is in: a model folder, or a Qwen2.5-VL itself."""
    if place is None:
        return None
    return place.parent if (place.parent / INDEX_NAME).is_file() else place


def _origins(bases: Bases, own: Mapping[str, object]) -> dict[str, Path]:
    """Where the configuration of each component comes from, and its weights if it has none here.

    Raises:
        CheckpointError: No base has it.
    """
    origins = {}
    for component in WEIGHT_STEMS:
        # Adapters need a base with weights; full weights prefer it for its own sake.
        with_weights = component not in own or component == "vlm"
        if component == "connector" and component in own:
            # Its sizes are in its tensors' shapes; what is not has released values.
            place = bases.find(component, with_weights=False)
            if place is not None:
                origins[component] = place
        else:
            origins[component] = bases.require(component, with_weights=with_weights)
    return origins


def _config(
    component: str, origins: Mapping[str, Path], own: Mapping[str, Mapping[str, HasShape]]
) -> Mapping[str, Any]:
    """Configuration of a component whose tensors the checkpoint has."""
    where = f"{component}/config.json"
    if component in origins:
        return read_json(origins[component] / "config.json", where)
    return write_bridge(read_bridge({}, own[component]), read_rope_precision({}))


def _plan_vlm(
    own: Mapping[str, Mapping[str, HasShape]],
    origins: Mapping[str, Path],
    lora_alpha: float | None,
) -> VLMPlan:
    place = origins.get("connector")
    values = {} if place is None else read_json(place / "config.json", "connector/config.json")
    tensors = own.get("connector")
    if tensors is None:
        tensors = stored_weights(origins["connector"], WEIGHT_STEMS["connector"])
    return plan_vlm(own["vlm"], origins["vlm"], (values, tensors), lora_alpha)
