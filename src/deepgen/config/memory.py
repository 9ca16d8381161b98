"""How a model fits into a GPU's memory: which weights are there when, and the peak that follows.

The peak of a plan, in bytes::

    peak = reserve + max over stages (weights on the device + activations)

The reserve is RESERVED, on a CPU none. Stages are conditioning (language model, bridge, vision
tower for edits), denoising (DiT) and VAE.
Bytes of weights are those of the stored tensors in the dtype of the computation; the factors of
activations were measured, see ``docs/memory.md``.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from deepgen.config.checks import check_choice, check_positive
from deepgen.extras import install_line

Quantization = Literal["int8", "fp8", "nf4"]
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

EXTRAS: Mapping[str, tuple[str, str]] = {
    "int8": ("torchao", "torchao"),
    "fp8": ("torchao", "torchao"),
    "nf4": ("bitsandbytes", "bitsandbytes"),
}
"""Package that each needs, and the extra with it."""

PRESETS = (6, 8, 12, 16, 24)
"""Sizes of common cards; any other number will do."""

GIB = 2**30

RESERVED = 3 * GIB // 4
"""For the CUDA context, workspaces of libraries, and gaps between tensors; an assumption."""

DIT_FACTOR = 15
"""Values per row and token of the DiT at the peak of a step, in widths."""

VLM_FACTOR = 12
"""Values per token of a prompt at the peak of conditioning, in widths of the MLP."""

VAE_FACTOR = 6.1
"""Values per pixel at the peak of decoding, which needs more than encoding, in channels of the
autoencoder's finest level."""

MODULATION_ROWS = 128
"""(step, row) pairs whose modulations the DiT computes and keeps together: their weights are read
once per so many. At full size they are 128 MB in bfloat16: 64 steps of one guided image, or fewer
of a larger batch."""

PROMPT_TOKENS = 512
"""A long prompt."""

TOKEN_SIDE, VLM_TOKEN_SIDE = 16, 32
"""Pixels along each side of a token of the DiT, and of the language model."""

BLOCK = re.compile(r"(?:^|\.)(?:transformer_blocks|layers|blocks)\.\d+(?=\.)")
"""The part of a weight's name that names a block."""

STREAMED: Mapping[str, str] = {
    "vlm": "language_model.layers",
    "transformer": "transformer_blocks",
}
"""Blocks that group offload has on the device one at a time, by component."""

STAGES: Mapping[str, tuple[str, ...]] = {
    "conditioning": ("vlm", "connector"),
    "denoising": ("transformer",),
    "vae": ("vae",),
}
"""Components that compute together."""

VISION = "visual."
"""Start of the names of the vision tower, which edits alone need."""

Shapes = Mapping[str, tuple[int, ...]]

Offload = Literal["none", "stages", "groups"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCase:
    """The largest image that memory has to suffice for."""

    height: int
    width: int
    references: int = 1
    """Images to edit, of the same size."""
    images: int = 1
    """At once, each with guidance."""

    @property
    def described(self) -> str:
        """As messages name it."""
        edits = f" with {self.references} of the same size to edit" if self.references else ""
        return f"{self.images} x {self.width} x {self.height}{edits}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a plan."""

    name: str
    weights: int
    """Bytes on the device."""
    activations: int
    """Bytes at their peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """Which weights are on the device when."""

    memory: int | float
    """Of the device, in GB of 2^30 bytes, that it keeps to."""
    offload: Offload
    groups: tuple[str, ...]
    """Components whose blocks are on the device one at a time."""
    quantization: Quantization | None
    stages: tuple[Stage, ...]
    reserved: int = RESERVED
    """Bytes beside weights and activations; none on a CPU."""

    @property
    def peak(self) -> int:
        """Bytes of the device at most."""
        return self.reserved + max(each.weights + each.activations for each in self.stages)

    @property
    def is_exact(self) -> bool:
        """Whether images are those of the model as it is, bit for bit."""
        return self.quantization is None

    def describe(self) -> str:
        """What happens, in one line."""
        how = {
            "none": "all weights stay on the device",
            "stages": "only the part in use is on the device",
            "groups": f"only the part in use is on the device, and of {' and '.join(self.groups)} "
            "two blocks at a time",
        }[self.offload]
        weights = f", weights of blocks in {self.quantization}" if self.quantization else ""
        largest = max(self.stages, key=lambda each: each.weights + each.activations)
        return f"{how}{weights}; at most {gigabytes(self.peak)} GB (in {largest.name})"


def gigabytes(size: int | float) -> str:
    """Bytes in GB of 2^30, as memory is sold; rounded up."""
    return f"{math.ceil(100 * size / GIB) / 100:.2f}"


def check_memory(memory: int | float | None, quantization: str | None) -> None:
    """Refuse what is no size and no kind of quantization; None is not set.

    Raises:
        ValueError: It is not.
    """
    check_positive("memory", memory)
    if quantization is not None:
        check_choice("quantize", quantization, QUANTIZATIONS)


def check_quantization(kind: str) -> None:
    """Refuse a kind whose package is not installed.

    Raises:
        ValueError: It is not; says how to install it.
    """
    package, extra = EXTRAS[kind]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{kind} needs {package}, which is not installed; use {install_line(extra)}"
        )


def is_quantizable(name: str, shape: tuple[int, ...], kind: Quantization) -> bool:
    """Whether a weight is a matrix of a linear layer in a block, of sizes that kernels take."""
    if len(shape) != 2 or not name.endswith(".weight") or not BLOCK.search(name):
        return False
    # Products of fp8 matrices are of tiles of 16, blocks of nf4 of 64 values.
    return {
        "int8": True,
        "fp8": not (shape[0] % 16 or shape[1] % 16),
        "nf4": not math.prod(shape) % 64,
    }[kind]


def weight_bytes(shapes: Shapes, value_bytes: int, kind: Quantization | None) -> int:
    """Bytes of tensors on the device."""
    total = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        if kind is None or not is_quantizable(name, shape, kind):
            total += size * value_bytes
        elif kind == "nf4":
            # A scale in 8 bits for 64 values, and one in 32 bits for 256 of those.
            total += size // 2 + size // 64 + size // 4096
        else:
            total += size + 4 * shape[0]
    return total


def plan_memory(
    components: Mapping[str, Shapes],
    memory: int | float,
    case: ImageCase,
    *,
    value_bytes: int = 2,
    quantization: Quantization | None = None,
    offloads: bool = True,
) -> MemoryPlan:
    """The plan that moves least and keeps to a size.

    Args:
        components: Shapes of the tensors that are loaded, by component and name.
        memory: Of the device, in GB of 2^30 bytes.
        case: What has to fit.
        value_bytes: Of a weight that is not quantized, and of an activation.
        quantization: Of weights in blocks; such blocks are not offloaded one by one.
        offloads: Whether weights may wait on the CPU; False where the CPU is what computes, which
            needs no reserve either.

    Raises:
        ValueError: None does; the message has the least size that would do.
    """

    def plans(kind: Quantization | None) -> Iterator[MemoryPlan]:
        return _plans(components, memory, case, value_bytes, kind, offloads)

    made = []
    for plan in plans(quantization):
        if plan.peak <= memory * GIB:
            return plan
        made.append(plan)
    least = min(each.peak for each in made)
    hint = ""
    if quantization is None:
        peaks = {kind: min(each.peak for each in plans(kind)) for kind in QUANTIZATIONS}
        fitting = [kind for kind in QUANTIZATIONS if peaks[kind] <= memory * GIB]
        best = min(QUANTIZATIONS, key=lambda kind: peaks[kind])
        if fitting:
            hint = f"; with quantize {' or '.join(fitting)} it fits"
        elif gigabytes(peaks[best]) != gigabytes(least):
            hint = f", or {gigabytes(peaks[best])} GB with quantize {best}"
    if not offloads:
        hint += "; weights can wait elsewhere only where a GPU computes"
    raise ValueError(
        f"memory {memory:g} cannot hold this model: it takes {gigabytes(least)} GB for "
        f"{case.described}{hint}"
    )


def _plans(
    components: Mapping[str, Shapes],
    memory: int | float,
    case: ImageCase,
    value_bytes: int,
    quantization: Quantization | None,
    offloads: bool,
) -> Iterator[MemoryPlan]:
    """All plans, those that move least first."""
    activations = _activations(components, case, value_bytes)
    whole, streamed = {}, {}
    for name, shapes in components.items():
        own = {k: v for k, v in shapes.items() if case.references or not k.startswith(VISION)}
        whole[name] = weight_bytes(own, value_bytes, None if name == "vae" else quantization)
        if name in STREAMED:
            streamed[name] = _streamed_bytes(own, STREAMED[name], value_bytes)
    for offload, groups in _choices(quantization is None, offloads):
        there = {**whole, **{name: streamed[name] for name in groups}}
        every = sum(there.values())
        stages = tuple(
            Stage(
                name=stage,
                weights=every if offload == "none" else sum(there[name] for name in names),
                activations=activations[stage],
            )
            for stage, names in STAGES.items()
        )
        yield MemoryPlan(
            memory=memory,
            offload=offload,
            groups=groups,
            quantization=quantization,
            stages=stages,
            reserved=RESERVED if offloads else 0,
        )


def _choices(streams: bool, offloads: bool) -> Iterable[tuple[Offload, tuple[str, ...]]]:
    """All that can be done, the fastest first."""
    yield "none", ()
    if not offloads:
        return
    yield "stages", ()
    if streams:
        yield "groups", ("vlm",)
        yield "groups", ("transformer",)
        yield "groups", ("vlm", "transformer")


def _streamed_bytes(shapes: Shapes, prefix: str, value_bytes: int) -> int:
    """Bytes on the device of a component whose blocks are there two at a time."""
    blocks: Counter[str] = Counter()
    rest = 0
    for name, shape in shapes.items():
        block = BLOCK.search(name) if name.startswith(prefix) else None
        if block is None:
            rest += math.prod(shape)
        else:
            blocks[block[0]] += math.prod(shape)
    # One computes while the next is copied.
    return value_bytes * (rest + 2 * max(blocks.values()))


def _activations(
    components: Mapping[str, Shapes], case: ImageCase, value_bytes: int
) -> dict[str, int]:
    """Bytes at the peak of each stage, beside weights."""
    dit, vlm = components["transformer"], components["vlm"]
    think = components["connector"]["meta_queries"][0]
    pixels = case.height * case.width
    prompt = PROMPT_TOKENS + think + case.references * pixels // VLM_TOKEN_SIDE**2
    tokens = (1 + case.references) * pixels // TOKEN_SIDE**2 + prompt
    modulations = sum(
        shape[0] for name, shape in dit.items() if "norm" in name and name.endswith("linear.weight")
    )
    width = dit["proj_out.weight"][1]
    inner = vlm["language_model.layers.0.mlp.gate_proj.weight"][0]
    channels = components["vae"]["decoder.conv_norm_out.weight"][0]
    values = {
        "conditioning": VLM_FACTOR * inner * prompt,
        "denoising": DIT_FACTOR * width * 2 * case.images * tokens + MODULATION_ROWS * modulations,
        "vae": round(VAE_FACTOR * channels * pixels),
    }
    return {stage: value_bytes * count for stage, count in values.items()}
