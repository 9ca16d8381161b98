"""A pipeline that draws nothing but remembers what it was asked, in place of a loaded model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.finding import FoundModel
from deepgen.cli import generating
from deepgen.config.model import GenerationDefaults


class StubPipeline:
    """Its images have one colour, made from the seed."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failure: BaseException | None = None

    def __call__(self, prompt: str, image: Any = None, **arguments: Any) -> Any:
        self.calls.append({"prompt": prompt, "image": image, **arguments})
        for step in range(arguments["num_inference_steps"]):
            if "callback_on_step_end" in arguments:
                arguments["callback_on_step_end"](self, step, 0.0, {})
        if self.failure is not None:
            raise self.failure
        size = (arguments["width"] or 64, arguments["height"] or 64)
        drawn = Image.new("RGB", size, (arguments["seed"] % 256, 100, 200))
        return SimpleNamespace(images=[drawn])


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> StubPipeline:
    """Have the commands find and load the stub, whatever model they are given."""
    pipe = StubPipeline()
    defaults = GenerationDefaults(height=64, width=64, num_inference_steps=3, guidance_scale=2.5)
    (folder / "model_index.json").write_text("{}")
    found = FoundModel(folder=ModelFolder(folder), defaults=defaults, max_side=1024)
    monkeypatch.setattr(generating, "find_model", lambda name: found)
    monkeypatch.setattr(generating, "load_pipeline", lambda model, options: pipe)
    return pipe
