"""Pipelines from model folders and hub models, and from other pipelines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.folder import compute_dtype, load_folder
from deepgen.checkpoint.hub import resolve
from deepgen.config.memory import Quantization
from deepgen.config.model import RopePrecision
from deepgen.devices import check_device
from deepgen.pipeline.components import PART_CLASSES
from deepgen.pipeline.keywords import REFUSED_ON_LOADING, check_keywords
from deepgen.pipeline.placement import plan_placement

if TYPE_CHECKING:
    from deepgen.pipeline.pipeline import DeepGenPipeline


class LoadingMethods:
    """The class methods that make a pipeline."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        dtype: torch.dtype | str | None = None,
        torch_dtype: torch.dtype | str | dict[str, torch.dtype] | None = None,
        device: torch.device | str = "cpu",
        revision: str | None = None,
        local_files_only: bool = False,
        rope_precision: RopePrecision | None = None,
        variant: str | None = None,
        gguf: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        memory: int | float | None = None,
        quantize: Quantization | None = None,
        compile: bool = False,
        **others: Any,
    ) -> DeepGenPipeline:
        """Load ``"mini"``, a model folder, or a hub id (``org/name`` or ``org/name@revision``).

        Args:
            pretrained_model_name_or_path: Which model.
            dtype: Compute dtype; None and "auto" take float32 on a CPU and bfloat16 on a GPU.
            torch_dtype: The same, as older diffusers scripts write it.
            device: Where the weights go.
            revision: Branch, tag or commit of a hub model.
            local_files_only: Never use the network.
            rope_precision: Of the rotary frequencies of the VLM; None uses the model's setting.
            variant: Of the weight files, such as ``fp16``, where the model has it.
            gguf: GGUF files, or folders of them, with weights of the DiT and the VLM in place of
                the model's own; they are computed with in ``dtype``.
            cache_dir: Where hub models are kept; None is the hub's own cache.
            token: For private and gated hub models; None is that of ``hf auth login``.
            memory: Of the GPU, in GB (2^30 bytes), that an image or edit of the model's size has to
                fit into; weights wait on the CPU as far as needed. Images stay the same bits.
            quantize: Of the blocks' weights: ``int8``, ``fp8`` (torchao) or ``nf4`` (bitsandbytes).
            compile: See :meth:`compile_transformer`.
            others: Parts to take in place of the model's own (``vae=`` and so on), and what other
                pipelines of diffusers know: accepted where it changes nothing, else refused.

        Raises:
            CheckpointError: The model cannot be found or loaded; the message names what and why.
            ValueError: An argument cannot be used.
        """
        parts = {name: others.pop(name) for name in PART_CLASSES if name in others}
        check_keywords("from_pretrained", others, REFUSED_ON_LOADING)
        if isinstance(torch_dtype, dict):
            raise ValueError(
                "from_pretrained: all parts compute in one dtype; give torch_dtype that one in "
                "place of a dict"
            )
        path = resolve(
            os.fspath(pretrained_model_name_or_path),
            revision=revision,
            local_files_only=local_files_only,
            cache_dir=cache_dir,
            token=token,
        )
        target = torch.device(device)
        check_device(target)
        chosen = compute_dtype(dtype if dtype is not None else torch_dtype, target)
        plan = plan_placement(ModelFolder(path, variant), target, chosen, memory, quantize)
        model = load_folder(
            path,
            dtype=chosen,
            device=device if plan is None and quantize is None else "cpu",
            rope_precision=rope_precision,
            variant=variant,
            gguf=[Path(each) for each in ([gguf] if isinstance(gguf, str | os.PathLike) else gguf)],
        )
        pipe: DeepGenPipeline = cast(Any, cls)(model)
        for name, part in parts.items():
            setattr(pipe, name, part)
        pipe._source = os.fspath(pretrained_model_name_or_path)
        pipe.place(target, plan, quantize=quantize, compile=compile)
        return pipe

    @classmethod
    def from_pipe(
        cls,
        pipeline: DeepGenPipeline,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **parts: Any,
    ) -> DeepGenPipeline:
        """A second pipeline over the weights of another, with its settings.

        Args:
            pipeline: The other one.
            dtype: Cast the shared weights; None leaves them (diffusers casts to float32).
            torch_dtype: The same, as older diffusers scripts write it.
            parts: To take in place of the other's own: ``vae=`` and so on.

        Raises:
            ValueError: It is another kind of pipeline, or offloaded; or a part does not fit.
        """
        if not isinstance(pipeline, LoadingMethods):
            raise ValueError(
                f"from_pipe takes a DeepGenPipeline, got {type(pipeline).__name__}, whose parts "
                "are others"
            )
        if pipeline._placement is not None:
            raise ValueError("an offloaded pipeline moves its parts itself and cannot be shared")
        check_keywords("from_pipe", {k: v for k, v in parts.items() if k not in PART_CLASSES})
        pipe: DeepGenPipeline = cast(Any, cls)(**pipeline.components)
        for name in PART_CLASSES:
            if name in parts:
                setattr(pipe, name, parts[name])
        pipe._source = pipeline._source
        wanted = dtype if dtype is not None else torch_dtype
        if wanted is not None:
            pipe.to(dtype=wanted)
        return pipe
