"""Tensors of GGUF files in place of those of a model folder, read one by one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepgen.checkpoint.configs import read_depth, read_unused
from deepgen.checkpoint.files import listed
from deepgen.checkpoint.gguf.headers import Blocks, Header, read_header, require_gguf
from deepgen.checkpoint.gguf.names import (
    ARCHITECTURES,
    DIT_PREFIX,
    Link,
    dit_links,
    language_links,
    vision_links,
)
from deepgen.checkpoint.headers import StoredTensor
from deepgen.conditioning.vlm_layers import module_key
from deepgen.errors import CheckpointError, shown
from deepgen.reading import open_regular

WHOLE = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that are numbers; the others are blocks."""

CHUNK_VALUES = 1 << 22
"""Values whose blocks are in memory in float32 at a time."""

Tensors = Mapping[str, StoredTensor]

BLOCK = re.compile(r"blk\.(0|[1-9][0-9]{0,3})\.(.+)")
"""Name of a tensor of the language model's layers: which layer, and which of its tensors."""


@dataclass(frozen=True, slots=True)
class Range:
    """Some of the values of a tensor of a GGUF file, in their order there."""

    blocks: Blocks
    start: int
    count: int

    def read(self, dtype: torch.dtype) -> Tensor:
        """The values, [count]."""
        return _values(self.blocks, self.start, self.count).to(dtype)


@dataclass(frozen=True, slots=True)
class GGUFTensor(StoredTensor):
    """A tensor of a model folder that a GGUF file holds.

    Blocks become float16: so are their scales, and it adds at most 1 in 2048 of a value to their
    error.
    """

    ranges: tuple[Range, ...] = field(kw_only=True)
    """Whose values follow each other in it, or which are its frames."""
    has_frames: bool = field(kw_only=True, default=False)

    def read(self) -> Tensor:
        """Its values.

        Raises:
            CheckpointError: The file cannot be read, or values are not finite.
        """
        try:
            parts = [each.read(WHOLE[self.dtype]) for each in self.ranges]
        except OSError as cause:
            raise CheckpointError(
                f"{self.file.name}: {shown(self.name)} cannot be read: {cause.strerror or cause}"
            ) from cause
        if self.has_frames:
            frame = self.shape[:2] + self.shape[3:]
            value = torch.stack([each.reshape(frame) for each in parts], dim=2)
        else:
            value = (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(self.shape)
        if value.numel() and not torch.stack(torch.aminmax(value)).isfinite().all():
            raise CheckpointError(
                f"{self.file.name}: {shown(self.name)} has values that are not finite"
            )
        return value


def _values(source: Blocks, start: int, count: int) -> Tensor:
    """A range of values, [count]."""
    where = source.offset + start // source.block_values * source.block_bytes
    with open_regular(source.file) as file:
        file.seek(where)
        if source.dtype in WHOLE:
            # Writable, as torch wants its memory.
            data = bytearray(count * source.block_bytes)
            _fill(file, data)
            return torch.frombuffer(data, dtype=WHOLE[source.dtype])
        gguf = require_gguf()
        kind = gguf.GGMLQuantizationType[source.dtype]
        values = torch.empty(count, dtype=torch.float16)
        for begin in range(0, count, CHUNK_VALUES):
            end = min(begin + CHUNK_VALUES, count)
            rows = (end - begin) // source.block_values
            blocks = np.empty((rows, source.block_bytes), np.uint8)
            _fill(file, blocks.data)
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                # Damaged scales are found by what comes out.
                found = gguf.quants.dequantize(blocks, kind)
            values[begin:end] = torch.from_numpy(found.reshape(-1))
    return values


def _fill(file: Any, data: Any) -> None:
    """Read as many bytes as there is room for."""
    if file.readinto(data) != len(memoryview(data).cast("B")):
        raise OSError("the file has become shorter")


def gguf_tensors(
    files: Sequence[Path],
    stored: Callable[[str], Tensors],
    config: Callable[[str], Mapping[str, Any]],
) -> dict[str, dict[str, StoredTensor]]:
    """The tensors of a model, those of GGUF files in place of its own, by component.

    All names and shapes are checked; no value is read.

    Args:
        files: Each with the DiT, the language model or the vision tower.
        stored: Gives the model's own tensors of a component.
        config: Gives the values of a component's ``config.json``.

    Raises:
        CheckpointError: A file is damaged, of another architecture, or does not fit the model.
    """
    components: dict[str, dict[str, StoredTensor]] = {}
    seen: dict[str, Path] = {}
    for file in files:
        header = read_header(file)
        kind = architecture(file, header)
        if kind in seen:
            raise CheckpointError(f"{file.name} and {seen[kind].name} are both for {kind}")
        seen[kind] = file
        component = ARCHITECTURES[kind]
        tensors = components.setdefault(component, dict(stored(component)))
        links, names = _links(kind, tensors)
        is_unused = _is_unused(kind, links, stored, config)
        for link in _matched(file, header, links, is_unused, DIT_PREFIX if kind == "sd3" else ""):
            for part, name in enumerate(link.ours):
                # A model without a table of positions computes it.
                if name in names:
                    own = tensors[names[name]]
                    tensors[own.name] = _replaced(file, header, link, part, own)
    return components


def _links(kind: str, tensors: Tensors) -> tuple[list[Link], dict[str, str]]:
    """All links of a model's tensors, and the stored names of those that links name."""
    if kind == "sd3":
        return dit_links(tensors), {name: name for name in tensors}
    names = {module_key(name): name for name in tensors}
    return (language_links if kind == "qwen2vl" else vision_links)(names), names


def architecture(file: Path, header: Header) -> str:
    """What a file says it is, or for a DiT without a word, what its names show.

    Raises:
        CheckpointError: It is none that a DeepGen has.
    """
    found = header.texts.get("general.architecture")
    if found is None and any(".x_block." in name for name in header.tensors):
        # stable-diffusion.cpp writes none.
        return "sd3"
    if found not in ARCHITECTURES:
        raise CheckpointError(
            f"{file.name} is of the architecture {shown(found)}, expected one of "
            f"{', '.join(ARCHITECTURES)}"
        )
    return found


def _is_unused(
    kind: str,
    links: Sequence[Link],
    stored: Callable[[str], Tensors],
    config: Callable[[str], Mapping[str, Any]],
) -> Callable[[str], bool]:
    """Which of their names are of tensors that a model, and a file, may lack."""
    if kind == "clip":
        return lambda _: False
    if kind == "sd3":
        return lambda name: name == "pos_embed"
    depth = read_depth(config("vlm"))
    of_model = read_unused(config("vlm"), config("connector"), stored("connector"))
    ours = {"output.weight": "lm_head.weight", "output_norm.weight": "norm.weight"}
    matches = (BLOCK.fullmatch(name) for link in links for name in link.theirs)
    tensors_of_a_block = {found[2] for found in matches if found}

    def is_unused(name: str) -> bool:
        if name in ours:
            return of_model(ours[name])
        found = BLOCK.fullmatch(name)
        if not found or int(found[1]) >= depth or found[2] not in tensors_of_a_block:
            return False
        return of_model(f"layers.{found[1]}.")

    return is_unused


def _matched(
    file: Path,
    header: Header,
    links: Sequence[Link],
    is_unused: Callable[[str], bool],
    prefix: str,
) -> list[Link]:
    """The links that a file has tensors for, whose names may have a prefix there.

    Raises:
        CheckpointError: Tensors are unknown or missing, both are listed, or there with the prefix
            and without.
    """
    twice = [name for name in header.tensors if prefix and prefix + name in header.tensors]
    if twice:
        raise CheckpointError(
            f"{file.name} has tensors both with {prefix} and without: {listed(twice)}"
        )
    names = {name.removeprefix(prefix) for name in header.tensors}
    expected = {name for link in links for name in link.theirs}
    problems = []
    for what, found in (("unknown", names - expected), ("missing", expected - names)):
        odd = [name for name in found if not is_unused(name)]
        if odd:
            problems.append(f"{len(odd)} {what} tensors: {listed(odd)}")
    if problems:
        raise CheckpointError(f"{file.name} has {'; '.join(problems)}")
    return [link for link in links if names.issuperset(link.theirs)]


def _replaced(file: Path, header: Header, link: Link, part: int, own: StoredTensor) -> GGUFTensor:
    """A model's tensor, from a file.

    Args:
        file: Where the link's tensors are.
        header: Of the file.
        link: That the model's tensor belongs to.
        part: Which of the link's own tensors it is.
        own: The tensor that is replaced.

    Raises:
        CheckpointError: It has another shape there, or parts of it share blocks.
    """
    theirs = [header.tensors.get(each) or header.tensors[DIT_PREFIX + each] for each in link.theirs]
    expected = their_shape(link, own.shape)
    for each in theirs:
        # ggml drops leading dimensions of 1, as the table of positions has one.
        if each.shape != expected and (1, *each.shape) != expected:
            raise CheckpointError(
                f"{file.name}: {shown(each.name)} has the shape {list(each.shape)}, expected "
                f"{list(expected)}"
            )
    if link.is_swapped:
        half = own.size // 2
        ranges = [Range(theirs[0], half, half), Range(theirs[0], 0, half)]
    elif len(theirs) > 1:
        ranges = [Range(each, 0, each.size) for each in theirs]
    else:
        ranges = [Range(theirs[0], part * own.size, own.size)]
    for one in ranges:
        if one.start % one.blocks.block_values or one.count % one.blocks.block_values:
            raise CheckpointError(
                f"{file.name}: {shown(one.blocks.name)} has blocks across its equal parts"
            )
    kinds = {each.dtype for each in theirs}
    dtype = kinds.pop() if len(kinds) == 1 else "F32"
    return GGUFTensor(
        file,
        own.name,
        dtype if dtype in WHOLE else "F16",
        own.shape,
        ranges=tuple(ranges),
        has_frames=link.has_frames,
    )


def their_shape(link: Link, own: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a GGUF file's tensor, from that of one of ours."""
    if link.has_frames:
        return own[:2] + own[3:]
    return (own[0] * len(link.ours) // len(link.theirs), *own[1:])
