"""Keywords of diffusers' pipelines that this one has no parameter for: accepted, or refused in a
sentence that says what to do instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REFUSED_ON_LOADING: Mapping[str, str] = {
    "custom_pipeline": "no code of a model is ever run; leave custom_pipeline out",
    "custom_revision": "no code of a model is ever run; leave custom_revision out",
    "device_map": "give device='cuda', or memory= in GB, in place of device_map",
    "max_memory": "give memory= in GB in place of max_memory",
    "offload_folder": "weights are not offloaded to disk; call enable_model_cpu_offload()",
    "offload_state_dict": "weights are not offloaded to disk; call enable_model_cpu_offload()",
    "quantization_config": "give quantize='int8', 'fp8' or 'nf4' in place of it",
    "from_flax": "Flax weights are not read; convert them to safetensors",
    "use_onnx": "ONNX models are not read; use a folder of safetensors",
    "proxies": "set HTTPS_PROXY in the environment in place of proxies",
    "mirror": "set HF_ENDPOINT in the environment in place of mirror",
    "subfolder": "give the model folder itself in place of subfolder",
    "output_loading_info": "a model loads completely or not at all; leave output_loading_info out",
    "safety_checker": "this model has no safety checker; leave it out",
    "feature_extractor": "images are prepared by the pipeline itself; leave it out",
    "image_encoder": "images are prepared by the pipeline itself; leave it out",
    **dict.fromkeys(
        ("text_encoder", "text_encoder_2", "text_encoder_3"),
        "the text encoder of this model is its vlm; give vlm= in place of it",
    ),
    **dict.fromkeys(
        ("tokenizer_2", "tokenizer_3"), "this model has one tokenizer; give tokenizer="
    ),
}

REFUSED_IN_CALLS: Mapping[str, str] = {
    "prompt_2": "this model has one text encoder, so put all of the text into prompt",
    "prompt_3": "this model has one text encoder, so put all of the text into prompt",
    "negative_prompt_2": "this model has one text encoder; use negative_prompt",
    "negative_prompt_3": "this model has one text encoder; use negative_prompt",
    "clip_skip": "this model has no CLIP text encoder; leave clip_skip out",
    "max_sequence_length": "prompts are read whole, up to 4,096 tokens; leave it out",
    "joint_attention_kwargs": "set the strength of adapters by set_adapters(name, strength)",
    "cross_attention_kwargs": "set the strength of adapters by set_adapters(name, strength)",
    "ip_adapter_image": "give reference images as image",
    "ip_adapter_image_embeds": "give reference images as image",
    "skip_guidance_layers": "guidance that skips layers is not supported",
    "strength": "edits follow the instruction alone; leave strength out",
    "mask_image": "the pipeline has no masks; deepgen serve edits with one",
    "timesteps": "give sigmas, the noise levels from 1 to 0, in place of timesteps",
}

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "use_safetensors": (True,),
    "low_cpu_mem_usage": (True, False),
    "trust_remote_code": (False,),
    "force_download": (False,),
    "safe_serialization": (True,),
    "push_to_hub": (False,),
    "is_main_process": (True,),
}
"""Values that say what holds anyway; None always does."""

WHY: Mapping[str, str] = {
    "use_safetensors": "pickles can run code and are never read, so use_safetensors must be True",
    "low_cpu_mem_usage": "low_cpu_mem_usage must be True or False; memory is always saved",
    "trust_remote_code": "no code of a model is ever run; leave trust_remote_code out",
    "force_download": "delete the model from the hub's cache to download it again",
    "safe_serialization": "only safetensors are written, so safe_serialization must be True",
    "push_to_hub": "upload the written folder with hf upload in place of push_to_hub",
    "is_main_process": "call save_pretrained in the main process alone",
}


def check_keywords(
    function: str, given: Mapping[str, Any], refused: Mapping[str, str] | None = None
) -> None:
    """Accept keywords without effect, and refuse all others in a sentence.

    Args:
        function: What was called.
        given: Keywords that it has no parameters for.
        refused: Names that other pipelines have, and what to do instead.

    Raises:
        ValueError: The first that cannot be used.
    """
    for name, value in given.items():
        if name in HARMLESS:
            if value is not None and value not in HARMLESS[name]:
                raise ValueError(f"{function}: {WHY[name]}, got {value!r}")
        elif refused and name in refused:
            if value is not None:
                raise ValueError(f"{function}: {refused[name]}")
        else:
            raise ValueError(
                f"{function} has no argument {name}; see its docstring for those it has"
            )


def parse_bytes(name: str, value: object) -> int:
    """Bytes of a size such as 1000, ``500MB`` or ``5GiB``.

    Raises:
        ValueError: It is no size of at least one byte.
    """
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
    text = str(value).upper().replace(" ", "")
    found = re.fullmatch(r"(\d{1,12})(?:(|K|M|G|KI|MI|GI)B)?", text)
    size = int(found[1]) * units[found[2] or ""] if found else 0
    if size < 1:
        raise ValueError(f"{name} must be bytes or a text such as 5GB, got {value!r}")
    return size
