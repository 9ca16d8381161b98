"""The tensors of a model folder that are loaded, for plans of memory; no torch in here."""

from __future__ import annotations

from deepgen.checkpoint.configs import read_defaults, read_unused
from deepgen.checkpoint.files import INDEX_NAME, ModelFolder
from deepgen.conditioning.vlm_layers import module_key
from deepgen.config.memory import ImageCase, MemoryPlan, Quantization, Shapes, plan_memory
from deepgen.errors import CheckpointError


def loaded_shapes(folder: ModelFolder) -> dict[str, Shapes]:
    """Shapes by component and name in the module, without what no image depends on.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    stored = {name: folder.stored(name) for name in ("transformer", "vae", "connector")}
    components: dict[str, Shapes] = {
        name: {key: tensor.shape for key, tensor in tensors.items()}
        for name, tensors in stored.items()
    }
    is_unused = read_unused(folder.config("vlm"), folder.config("connector"), stored["connector"])
    components["vlm"] = {
        module_key(key): tensor.shape
        for key, tensor in folder.stored("vlm").items()
        if not is_unused(module_key(key))
    }
    return components


def plan_for(
    folder: ModelFolder,
    memory: int | float,
    *,
    value_bytes: int = 2,
    quantization: Quantization | None = None,
    offloads: bool = True,
    height: int | None = None,
    width: int | None = None,
    references: int = 1,
) -> MemoryPlan:
    """The plan of a model; sizes that are not given are the model's.

    Raises:
        ValueError: Nothing keeps to that memory.
        CheckpointError: A file is missing or damaged, or the model is of another kind.
    """
    defaults = read_defaults(folder.json(INDEX_NAME))
    case = ImageCase(
        height=height or defaults.height,
        width=width or defaults.width,
        references=references,
    )
    try:
        return plan_memory(
            loaded_shapes(folder),
            memory,
            case,
            value_bytes=value_bytes,
            quantization=quantization,
            offloads=offloads,
        )
    except KeyError as cause:
        raise CheckpointError(f"{folder.path} has no tensor {cause}") from None
