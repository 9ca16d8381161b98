"""Several threads and one model."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from deepgen.checkpoint.folder import load_folder
from deepgen.pipeline.pipeline import DeepGenPipeline
from tests.pipeline.test_golden import image, pipeline
from tests.pipeline.test_pipeline import FAST
from tests.shared import golden

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")


def test_four_first_edits_at_once_are_those_of_one_after_another() -> None:
    options = {**FAST, "image": image("r2"), "num_inference_steps": 1}
    alone = [pipeline()("make it red", seed=seed, **options).images for seed in range(4)]
    # The vision tower is loaded by the first edit. Two pipelines may share a model.
    model = load_folder(golden("model"), rope_precision="fp32")
    pipes = [DeepGenPipeline(model), DeepGenPipeline(model)]
    start = threading.Barrier(4)
    in_progress: list[int] = []
    most = []

    def count(*_: Any) -> None:
        in_progress.append(1)
        # Time for the others, if they could.
        time.sleep(0.05)
        most.append(len(in_progress))
        in_progress.pop()

    def edit(seed: int) -> Any:
        start.wait(20)
        pipe = pipes[seed % 2]
        return pipe("make it red", seed=seed, callback_on_step_end=count, **options).images

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(edit, range(4)))
    assert all(map(torch.equal, together, alone))
    assert most == [1] * 4


def test_an_interruption_ends_only_the_call_that_it_is_for() -> None:
    pipe = pipeline()
    whole = pipe("a cat", seed=0, **FAST).images
    begun, other_waits = threading.Event(), threading.Event()
    steps: list[int] = []

    def wait(*_: Any) -> None:
        steps.append(1)
        begun.set()
        assert other_waits.wait(20)

    def stop(own: DeepGenPipeline, *_: Any) -> None:
        own.interrupt()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(pipe, "a cat", seed=0, callback_on_step_end=wait, **FAST)
        assert begun.wait(20)
        second = pool.submit(pipe, "a dog", seed=0, callback_on_step_end=stop, **FAST)
        while len(pipe._calls._calls) < 2:
            pass
        # It is not said which.
        with pytest.raises(ValueError, match="2 calls are in progress"):
            pipe.interrupt()
        other_waits.set()
        assert torch.equal(first.result().images, whole)
        assert not torch.equal(second.result().images, pipe("a dog", seed=0, **FAST).images)
    assert len(steps) == 2


def test_another_thread_may_interrupt_the_only_call() -> None:
    steps: list[int] = []

    def stop(own: DeepGenPipeline, *_: Any) -> None:
        steps.append(1)
        thread = threading.Thread(target=own.interrupt)
        thread.start()
        thread.join()

    pipeline()("a cat", seed=0, callback_on_step_end=stop, **FAST)
    assert len(steps) == 1
    # With none in progress there is nothing to end, now or later.
    pipeline().interrupt()
    pipeline()("a cat", seed=0, callback_on_step_end=lambda *_: steps.append(1), **FAST)
    assert len(steps) == 3


def test_callbacks_of_other_pipelines_of_diffusers_interrupt_as_well() -> None:
    steps: list[int] = []

    def stop(own: DeepGenPipeline, *_: Any) -> None:
        steps.append(1)
        own._interrupt = True

    pipeline()("a cat", seed=0, callback_on_step_end=stop, **FAST)
    assert len(steps) == 1
