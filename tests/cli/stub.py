"""A pipeline that draws nothing but remembers what it was asked, in place of a loaded model."""

from __future__ import annotations

import pickle
from importlib.machinery import ModuleSpec
from io import BytesIO
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from PIL import Image

from deepgen.checkpoint.files import ModelFolder
from deepgen.checkpoint.finding import FoundModel
from deepgen.cli import evaluating, generating
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


def found_model(folder: Path) -> FoundModel:
    """What a stub is taken for: a model of 64 pixels and 3 steps in a folder that says no more."""
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text("{}")
    defaults = GenerationDefaults(height=64, width=64, num_inference_steps=3, guidance_scale=2.5)
    return FoundModel(folder=ModelFolder(folder), defaults=defaults, max_side=1024)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> StubPipeline:
    """Have ``generate`` and ``edit`` find and load the stub, whatever model they are given."""
    pipe, found = StubPipeline(), found_model(folder)
    monkeypatch.setattr(generating, "find_model", lambda name: found)
    monkeypatch.setattr(generating, "load_pipeline", lambda *_: pipe)
    return pipe


class SmallPipeline:
    """Makes 8 x 8 pixels of one colour per seed, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, prompt: str, image: Any, **arguments: Any) -> Any:
        self.calls.append({"prompt": prompt, "image": image, **arguments})
        return SimpleNamespace(images=[Image.new("RGB", (8, 8), (arguments["seed"] % 256, 0, 0))])


def install_for_evaluation(monkeypatch: pytest.MonkeyPatch, folder: Path) -> SmallPipeline:
    """Have ``eval`` find and load a stub, with ``folder`` to work and to keep caches in."""
    pipe, found = SmallPipeline(), found_model(folder / "model")
    monkeypatch.setattr(evaluating, "find_model", lambda name: found)
    monkeypatch.setattr("deepgen.eval.run.model.load_pipeline", lambda path, device: pipe)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DEEPGEN_CACHE", str(folder / "cache"))
    return pipe


class RayPickler(pickle.Pickler):
    """As cloudpickle, which Ray uses, it takes lambdas."""

    lambdas: ClassVar[list[FunctionType]] = []

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, FunctionType) or value.__name__ != "<lambda>":
            return NotImplemented
        self.lambdas.append(value)
        return _kept, (len(self.lambdas) - 1,)


def _kept(number: int) -> FunctionType:
    return RayPickler.lambdas[number]


def sent(value: Any) -> Any:
    """A value as another process gets it."""
    pickled = BytesIO()
    RayPickler(pickled).dump(value)
    return pickle.loads(pickled.getvalue())


class RayError(Exception):
    """As ``ray.exceptions.RayError``."""


def stub_ray(asked: list[int], failure: Exception | None = None) -> ModuleType:
    """Ray in this process: arguments are pickled and rows are Arrow's, as on their way to another.

    Args:
        asked: Gets the number of rows of each mapping.
        failure: Raised instead of any row.
    """

    class Data:
        def __init__(self, rows: list[dict[str, object]]) -> None:
            self.rows = pa.Table.from_pylist(rows).to_pylist()

        def map(self, kind: Any, *, fn_constructor_args: Any, **options: Any) -> Data:
            assert options == {"concurrency": min(2, len(self.rows)), "num_gpus": 0}
            asked.append(len(self.rows))
            if failure is not None:
                raise failure
            maker = kind(*sent(fn_constructor_args))
            return Data([maker(row) for row in self.rows])

        def iter_rows(self) -> list[dict[str, object]]:
            return self.rows

    data = SimpleNamespace(from_items=lambda rows, **_: Data(rows))
    ray = ModuleType("ray")
    errors = SimpleNamespace(RayError=RayError)
    vars(ray).update(
        data=data, exceptions=errors, is_initialized=lambda: True, cluster_resources=dict
    )
    ray.__spec__ = ModuleSpec("ray", None)
    return ray
