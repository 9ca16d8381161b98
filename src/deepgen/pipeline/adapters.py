"""The LoRA methods of the pipeline, named as in diffusers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from deepgen.checkpoint.adapters import adapters_of
from deepgen.checkpoint.hub import resolve_adapter
from deepgen.model import DeepGen
from deepgen.pipeline.keywords import REFUSED_ON_LOADING, check_keywords
from deepgen.pipeline.turns import turn


class AdapterMethods:
    """Loading, scaling, stacking and taking off adapters of the pipeline's model.

    Active adapters are part of the weights, rounded once, and saved with them. Taken off, they
    leave the weights bit for bit as they were. Pipelines of one model share its adapters.
    """

    model: DeepGen

    def load_lora_weights(
        self,
        pretrained_model_name_or_path: str | os.PathLike[str] | Mapping[str, Any],
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        scale: float = 1.0,
        hotswap: bool = False,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        **others: Any,
    ) -> None:
        """Load an adapter and add it to the active ones; several add up.

        Args:
            pretrained_model_name_or_path: A safetensors file in the layout of peft, diffusers,
                kohya or LyCORIS (LoRA, LoHa, LoKr), a folder with one, or a hub id.
            adapter_name: What it is called; by default ``default_0`` and so on.
            weight_name: The file's name in the folder.
            scale: Its strength.
            hotswap: Take the place of the loaded adapter of that name.
            revision: Branch, tag or commit of a hub adapter.
            local_files_only: Never use the network.
            cache_dir: Where hub adapters are kept; None is the hub's own cache.
            token: For private and gated hub adapters; None is that of ``hf auth login``.
            others: As of other pipelines of diffusers; refused where they would have an effect.

        Raises:
            CheckpointError: It is not an adapter, or one for another model; nothing was changed.
            ValueError: The name is taken, or the scale beyond ``MAX_LORA_SCALE``.
        """
        check_keywords("load_lora_weights", others, REFUSED_ON_LOADING)
        if isinstance(pretrained_model_name_or_path, Mapping):
            raise ValueError("load_lora_weights reads files; save these tensors as safetensors")
        path = resolve_adapter(
            os.fspath(pretrained_model_name_or_path),
            revision=revision,
            local_files_only=local_files_only,
            cache_dir=cache_dir,
            token=token,
        )
        with turn(self.model):
            adapters_of(self.model).load(
                path,
                adapter_name,
                scale=scale,
                file_name=weight_name,
                hotswap=hotswap,
            )

    def set_adapters(
        self,
        adapter_names: str | Sequence[str],
        adapter_weights: float | Sequence[float] | None = None,
    ) -> None:
        """Make these adapters the active ones; the others stay loaded.

        Args:
            adapter_names: Names given on loading; none at all deactivates all.
            adapter_weights: Their strengths, or one for all; None is 1.

        Raises:
            ValueError: One is not loaded, or there is another number of strengths.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        if adapter_weights is None or isinstance(adapter_weights, int | float):
            scales = [1.0 if adapter_weights is None else adapter_weights] * len(names)
        else:
            scales = list(adapter_weights)
        if len(scales) != len(names):
            raise ValueError(f"{len(names)} adapters need as many weights, got {len(scales)}")
        with turn(self.model):
            adapters_of(self.model).activate(dict(zip(names, scales, strict=True)))

    def get_active_adapters(self) -> list[str]:
        """Names of the active adapters."""
        return [*adapters_of(self.model).scales]

    def disable_lora(self) -> None:
        """Take all adapters off until :meth:`enable_lora`; what is fused stays."""
        with turn(self.model):
            adapters_of(self.model).disable()

    def enable_lora(self) -> None:
        """Make those adapters active again that :meth:`disable_lora` took off."""
        with turn(self.model):
            adapters_of(self.model).enable()

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of all loaded adapters; they may reach into any part, so there is one list."""
        return {"model": adapters_of(self.model).names}

    def delete_adapters(self, adapter_names: str | Sequence[str]) -> None:
        """Take adapters off and forget them.

        Raises:
            ValueError: One is not loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        with turn(self.model):
            adapters_of(self.model).remove(names)

    def unload_lora_weights(self) -> None:
        """Take all adapters off and forget them; what is fused stays in the weights for good."""
        with turn(self.model):
            adapters_of(self.model).remove()

    def fuse_lora(
        self, *, lora_scale: float = 1.0, adapter_names: Sequence[str] | None = None
    ) -> None:
        """Keep active adapters in the weights, whatever is set afterwards.

        Args:
            lora_scale: Factor on top of their strengths.
            adapter_names: Which; None is all active ones.

        Raises:
            ValueError: One is not loaded, or fused already.
        """
        with turn(self.model):
            adapters_of(self.model).fuse(adapter_names, lora_scale)

    def unfuse_lora(self) -> None:
        """Make fused adapters what they were before."""
        with turn(self.model):
            adapters_of(self.model).unfuse()
