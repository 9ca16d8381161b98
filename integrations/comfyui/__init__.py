"""DeepGen for ComfyUI: text-to-image and editing, as nodes of the V3 interface."""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
