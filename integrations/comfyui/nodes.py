"""Nodes of ComfyUI's V3 interface; what they do is in ``core``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import ComfyAPISync, ComfyExtension, io

from deepgen.checkpoint.hub import EMBEDDED
from deepgen.config.model import SIZE_UNIT

from . import core

CATEGORY = "DeepGen"

FOLDER = "deepgen"
"""Below ComfyUI's folder of models: one folder per model."""

NO_ADAPTER = "none"

MAX_IMAGES = 16

Model = io.Custom("DEEPGEN")
Conditioning = io.Custom("DEEPGEN_CONDITIONING")


def model_folders() -> dict[str, Path]:
    """The models that can be chosen, by name; no other path can."""
    root = Path(folder_paths.models_dir) / FOLDER
    found = root.iterdir() if root.is_dir() else ()
    return {each.name: each for each in sorted(found) if (each / "model_index.json").is_file()}


def progress(step: int, steps: int) -> None:
    """Move the bar of the running node; raises where ComfyUI has been told to stop."""
    ComfyAPISync().execution.set_progress(step, steps)


def sampling_inputs() -> list[Any]:
    """Seed, steps and guidance; 0 is the model's default."""
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=True,
            tooltip="Reduced modulo 2^63; image i of a batch has seed + i",
        ),
        io.Int.Input("steps", default=0, min=0, max=200, tooltip="0 is the model's default"),
        io.Float.Input(
            "guidance",
            default=0.0,
            min=0.0,
            max=20.0,
            step=0.1,
            tooltip="0 is the model's default; 1 turns guidance off",
        ),
    ]


def images_input() -> Any:
    """Any number of images, in their order."""
    image = io.Image.Input("image", tooltip="A batch is as many references")
    template = io.Autogrow.TemplatePrefix(input=image, prefix="image_", min=0, max=MAX_IMAGES)
    return io.Autogrow.Input("images", template=template)


def settings(seed: int, steps: int, guidance: float) -> core.Settings:
    """What the widgets say."""
    return core.Settings(seed=seed, steps=steps or None, guidance=guidance or None)


def grown(images: dict[str, Any] | None) -> list[Any]:
    """The connected ones of an input that grows, in their order."""
    connected = {name: image for name, image in (images or {}).items() if image is not None}
    return [connected[name] for name in sorted(connected, key=lambda e: int(e.rpartition("_")[2]))]


class DeepGenLoader(io.ComfyNode):
    """Loads the embedded model, or one below ``models/deepgen``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        adapters = [NO_ADAPTER, *folder_paths.get_filename_list("loras")]
        return io.Schema(
            node_id="DeepGenLoader",
            display_name="DeepGen Loader",
            category=CATEGORY,
            description="Loads a DeepGen model; mini is embedded, others lie in models/deepgen",
            inputs=[
                io.Combo.Input("model", options=[EMBEDDED, *model_folders()]),
                io.Combo.Input("dtype", options=["auto", "float32", "bfloat16", "float16"]),
                io.Combo.Input("adapter", options=adapters, default=NO_ADAPTER),
                io.Float.Input("adapter_scale", default=1.0, min=-4.0, max=4.0, step=0.05),
            ],
            outputs=[Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, adapter: str, adapter_scale: float) -> io.NodeOutput:
        """The model."""
        path: Path | str = EMBEDDED if model == EMBEDDED else model_folders()[model]
        lora = None
        if adapter != NO_ADAPTER:
            lora = Path(folder_paths.get_full_path_or_raise("loras", adapter))
        return io.NodeOutput(core.load(path, dtype=dtype, adapter=lora, scale=adapter_scale))


class DeepGenConditioning(io.ComfyNode):
    """A prompt, with the images that it is about."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        return io.Schema(
            node_id="DeepGenConditioning",
            display_name="DeepGen Text and Images",
            category=CATEGORY,
            inputs=[
                io.String.Input("prompt", multiline=True, dynamic_prompts=True),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="Empty is the model's default; it counts with guidance above 1",
                ),
                images_input(),
            ],
            outputs=[Conditioning.Output(display_name="conditioning")],
        )

    @classmethod
    def execute(
        cls, prompt: str, negative_prompt: str, images: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        """The conditioning."""
        return io.NodeOutput(core.conditioning(prompt, negative_prompt, grown(images)))


class DeepGenEmptyLatent(io.ComfyNode):
    """Size and number of images, for the sampler; ComfyUI's empty SD3 latent does as well."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        side: dict[str, Any] = {"default": 0, "min": 0, "max": 4096, "step": SIZE_UNIT}
        side["tooltip"] = "0 is the model's own"
        return io.Schema(
            node_id="DeepGenEmptyLatent",
            display_name="DeepGen Empty Latent",
            category=CATEGORY,
            inputs=[
                Model.Input("model"),
                io.Int.Input("width", **side),
                io.Int.Input("height", **side),
                io.Int.Input("batch_size", default=1, min=1, max=64),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, model: Any, width: int, height: int, batch_size: int) -> io.NodeOutput:
        """The latent."""
        return io.NodeOutput(core.empty_latent(model, width, height, batch_size))


class DeepGenSampler(io.ComfyNode):
    """Generates, or edits where the conditioning has images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        return io.Schema(
            node_id="DeepGenSampler",
            display_name="DeepGen Sampler",
            category=CATEGORY,
            inputs=[
                Model.Input("model"),
                Conditioning.Input("conditioning"),
                io.Latent.Input("latent", tooltip="Decides size and number of images"),
                *sampling_inputs(),
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        conditioning: core.Conditioning,
        latent: dict[str, Any],
        seed: int,
        steps: int,
        guidance: float,
    ) -> io.NodeOutput:
        """The latents of the images."""
        own = settings(seed, steps, guidance)
        return io.NodeOutput(core.sample(model, conditioning, latent, own, progress))


class DeepGenVAEDecode(io.ComfyNode):
    """Latents to images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        return io.Schema(
            node_id="DeepGenVAEDecode",
            display_name="DeepGen VAE Decode",
            category=CATEGORY,
            inputs=[Model.Input("model"), io.Latent.Input("latent")],
            outputs=[io.Image.Output(display_name="image")],
        )

    @classmethod
    def execute(cls, model: Any, latent: dict[str, Any]) -> io.NodeOutput:
        """The images."""
        return io.NodeOutput(core.decode(model, latent))


class DeepGenVAEEncode(io.ComfyNode):
    """Images to latents, of the nearest size that the model can make."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        return io.Schema(
            node_id="DeepGenVAEEncode",
            display_name="DeepGen VAE Encode",
            category=CATEGORY,
            inputs=[Model.Input("model"), io.Image.Input("image")],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def execute(cls, model: Any, image: Any) -> io.NodeOutput:
        """The latents."""
        return io.NodeOutput(core.encode(model, image))


class DeepGenEdit(io.ComfyNode):
    """Changes an image by an instruction, in a mask if there is one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What it takes and gives."""
        return io.Schema(
            node_id="DeepGenEdit",
            display_name="DeepGen Edit",
            category=CATEGORY,
            inputs=[
                Model.Input("model"),
                io.String.Input("instruction", multiline=True, dynamic_prompts=True),
                io.Image.Input("image"),
                io.Mask.Input("mask", optional=True, tooltip="Where the image may change"),
                images_input(),
                *sampling_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.String.Output(display_name="record"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        instruction: str,
        image: Any,
        seed: int,
        steps: int,
        guidance: float,
        mask: Any = None,
        images: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        """The changed image, and how it was made."""
        wanted = core.conditioning(instruction, "", [image[:1], *grown(images)])
        own = settings(seed, steps, guidance)
        return io.NodeOutput(*core.edit(model, wanted, mask, own, progress))


class DeepGenExtension(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes."""
        return [
            DeepGenLoader,
            DeepGenConditioning,
            DeepGenEmptyLatent,
            DeepGenSampler,
            DeepGenVAEDecode,
            DeepGenVAEEncode,
            DeepGenEdit,
        ]


async def comfy_entrypoint() -> DeepGenExtension:
    """Where ComfyUI begins."""
    return DeepGenExtension()
