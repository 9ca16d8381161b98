"""Images that come and go beside each other, against each alone."""

import json
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepgen.config.solver import SolverOptions
from deepgen.images.io import PNG_KEY
from deepgen.pipeline import denoising
from deepgen.pipeline.engine import Engine, EngineLimits, Event, Job
from deepgen.pipeline.request import parse_requests, parse_sampling
from tests.pipeline.test_golden import image, pipeline

pytestmark = pytest.mark.filterwarnings("ignore:.*expect a poor result")

TOLERANCE = 2e-5


def job(
    name: str,
    prompt: str = "a cat",
    *,
    images: Sequence[Image.Image] = (),
    size: tuple[int, int] | None = (64, 64),
    steps: int = 3,
    guidance: float = 1.0,
    seed: int = 1,
    **options: Any,
) -> Job:
    model = pipeline().model
    height, width = size or (None, None)
    (request,) = parse_requests(
        prompt,
        list(images) or None,
        negative_prompt=None,
        height=height,
        width=width,
        latents=None,
        channels=16,
        defaults=model.defaults,
        max_side=model.max_side,
    )
    sampling = parse_sampling(steps, guidance, None, model.defaults)
    options = {"client": "a", **options}
    return Job(id=name, request=request, sampling=sampling, seed=seed, **options)


def alone(each: Job) -> Image.Image:
    """What the pipeline makes of a job."""
    model = pipeline().model
    model.conditioner.clear_cache()
    sized = (
        {}
        if each.request.output_size
        else {"height": each.request.height, "width": each.request.width}
    )
    made: Image.Image = pipeline()(
        each.request.prompt,
        [reference.image for reference in each.request.references] or None,
        num_inference_steps=each.sampling.steps,
        guidance_scale=each.sampling.guidance_scale,
        seed=each.seed,
        **sized,
    ).images[0]
    return made


def run(engine: Engine) -> list[Event]:
    events = []
    while not engine.is_idle:
        events += engine.tick()
    return events


def images(events: Sequence[Event]) -> dict[str, Image.Image]:
    return {e.id: e.image for e in events if e.kind == "finished" and e.image is not None}


def difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


def test_images_that_come_and_go_are_those_made_alone() -> None:
    rng = random.Random(0)
    jobs = [
        job("plain", steps=5),
        job("guided", "two dogs under a tree", steps=4, guidance=3.0, seed=2),
        job("edit", "make it red", images=[image("r0")], size=None, steps=3, guidance=2.0),
        job("wide", "a", size=(64, 96), steps=6, seed=4),
        job("two", "put one into the other", images=[image("r1"), image("r2")], steps=2, seed=5),
        job("cancelled", "never seen", steps=9),
    ]
    rng.shuffle(jobs)
    engine, events, waiting = Engine(pipeline().model), [], list(jobs)
    while waiting or not engine.is_idle:
        if waiting:
            engine.submit(waiting.pop())
        events += engine.tick()
        if any(e.id == "cancelled" and e.step == 2 for e in events):
            engine.cancel("cancelled")
    found = images(events)
    assert set(found) == {each.id for each in jobs} - {"cancelled"}
    for each in jobs:
        if each.id in found:
            assert difference(found[each.id], alone(each)) <= 1


def test_a_lone_image_is_the_pipelines_to_the_bit_and_says_how_it_was_made() -> None:
    each = job("one", guidance=2.5, seed=9)
    engine = Engine(pipeline().model, source=pipeline()._source)
    engine.submit(each)
    pipeline().model.conditioner.clear_cache()
    (found,) = images(run(engine)).values()
    expected = alone(each)
    assert found.tobytes() == expected.tobytes()
    assert found.info == expected.info


def test_latents_of_a_joined_step_are_those_of_single_steps() -> None:
    jobs = [job("a", guidance=2.0), job("b", "dogs", steps=5), job("c", "trees", size=(64, 96))]
    together = Engine(pipeline().model)
    for each in jobs:
        together.submit(each)
    together.tick()
    together.tick()
    for index, each in enumerate(jobs):
        single = Engine(pipeline().model)
        single.submit(each)
        single.tick()
        single.tick()
        mine = together._running[index].denoising.latents[0]
        assert (mine - single._running[0].denoising.latents[0]).abs().max() <= TOLERANCE


def test_images_join_at_the_next_tick_and_leave_at_once() -> None:
    engine = Engine(pipeline().model, EngineLimits(rows=3))
    engine.submit(job("a", steps=9, guidance=2.0))
    engine.tick()
    engine.submit(job("b", steps=9))
    engine.submit(job("c", steps=9))
    assert [e.id for e in engine.tick() if e.kind == "started"] == ["b"]
    assert engine.positions() == {"c": 0}
    assert engine.cancel("a")
    assert engine.running_rows == 1
    assert [e.id for e in engine.tick() if e.kind == "started"] == ["c"]
    assert engine.cancel("c")
    assert not engine.cancel("c")
    assert {e.id for e in run(engine)} == {"b"}


def test_few_begin_in_one_tick() -> None:
    engine = Engine(pipeline().model, EngineLimits(admitted=2))
    for number in range(3):
        engine.submit(job(str(number), steps=2))
    assert [e.id for e in engine.tick() if e.kind == "started"] == ["0", "1"]


def test_what_does_not_fit_alone_is_refused() -> None:
    engine = Engine(pipeline().model, EngineLimits(rows=1))
    with pytest.raises(ValueError, match=r"needs 2 rows with .* room for 1"):
        engine.submit(job("guided", guidance=2.0))
    assert engine.is_idle


def test_an_image_that_breaks_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(pipeline().model)
    engine.submit(job("bad", steps=2))
    engine.submit(job("good", steps=2))
    engine.tick()
    engine._running[0].denoising.latents[0].fill_(torch.nan)
    events = run(engine)
    assert [(e.id, e.code) for e in events if e.kind == "failed"] == [("bad", "non_finite")]
    assert set(images(events)) == {"good"}


def test_a_prompt_that_is_too_long_fails_and_the_others_begin() -> None:
    engine = Engine(pipeline().model)
    engine.submit(job("long", "word " * 5000))
    engine.submit(job("good", steps=1))
    events = run(engine)
    (failed,) = [e for e in events if e.kind == "failed"]
    assert (failed.id, failed.code) == ("long", "invalid_value")
    assert "tokens" in failed.message
    assert set(images(events)) == {"good"}


def test_what_is_late_is_given_up_waiting_or_running() -> None:
    engine = Engine(pipeline().model, EngineLimits(rows=1))
    engine.submit(job("running", steps=9, deadline=time.monotonic() + 100))
    engine.tick()
    engine.submit(job("waiting", deadline=0.0))
    (failed,) = [e for e in engine.tick() if e.kind == "failed"]
    assert (failed.id, failed.code) == ("waiting", "deadline_exceeded")
    monotonic = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepgen.pipeline.engine.time.monotonic", lambda: monotonic + 200)
        assert [(e.id, e.code) for e in engine.tick()] == [("running", "deadline_exceeded")]
    assert engine.is_idle


def test_when_memory_runs_out_the_last_one_waits_and_keeps_its_steps() -> None:
    engine = Engine(pipeline().model)
    first, second = job("first", steps=3), job("second", "dogs", steps=3, seed=8)
    engine.submit(first)
    engine.submit(second)
    events = engine.tick()
    dit, real = engine.model.dit, engine.model.dit.velocity
    failures = 1

    def velocity(latents: Any, *rest: Any) -> Any:
        nonlocal failures
        if len(latents) > 1 and failures:
            failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(latents, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dit, "velocity", velocity)
        assert engine.tick() == []
        assert engine.positions() == {"second": 0}
        events += run(engine)
    found = images(events)
    assert [e.step for e in events if e.id == "second" and e.kind == "step"] == [1, 2, 3]
    for each in (first, second):
        assert difference(found[each.id], alone(each)) <= 1


def test_when_memory_runs_out_between_two_images_no_step_is_made_twice() -> None:
    engine = Engine(pipeline().model)
    jobs = [job("first", steps=3), job("second", "dogs", steps=3, seed=8)]
    for each in jobs:
        engine.submit(each)
    events = engine.tick()
    real, calls = denoising.euler_step, 0

    def euler_step(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoising, "euler_step", euler_step)
        assert engine.tick() == []
        events += run(engine)
    found = images(events)
    for each in jobs:
        own = [e.step for e in events if e.id == each.id and e.kind == "step"]
        assert own == [1, 2, 3]
        assert difference(found[each.id], alone(each)) <= 1


@pytest.mark.parametrize("cache", ["taylor", "first-block"])
def test_a_cache_is_refused_since_rows_are_joined_with_others(cache: str) -> None:
    engine = Engine(pipeline().model)
    with pytest.raises(ValueError, match=f"have no cache, got '{cache}'"):
        engine.submit(job("one", options=SolverOptions(cache=cache)))
    assert engine.is_idle


def test_solvers_and_intervals_of_guidance_are_an_images_own() -> None:
    options = SolverOptions(solver="ab2", guidance_interval=(0.3, 0.8), guidance_rescale=0.5)
    own = job("own", "two dogs", steps=5, guidance=3.0, options=options)
    engine = Engine(pipeline().model)
    engine.submit(own)
    engine.submit(job("other", steps=5, guidance=2.0))
    found = images(run(engine))["own"]
    made = pipeline()(
        "two dogs",
        seed=1,
        height=64,
        width=64,
        num_inference_steps=5,
        guidance_scale=3.0,
        solver="ab2",
        guidance_interval=(0.3, 0.8),
        guidance_rescale=0.5,
    ).images[0]
    assert difference(found, made) <= 1
    assert json.loads(found.info[PNG_KEY])["solver"] == "ab2"
    assert difference(found, alone(job("usual", "two dogs", steps=5, guidance=3.0))) > 1


def test_where_two_images_are_too_much_they_come_one_after_the_other() -> None:
    engine = Engine(pipeline().model)
    for name in ("first", "second"):
        engine.submit(job(name, guidance=2.0))
    real, failures = engine.model.dit.velocity, 0

    def velocity(latents: Any, *rest: Any) -> Any:
        nonlocal failures
        if len(latents) > 2:
            failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(latents, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model.dit, "velocity", velocity)
        assert set(images(run(engine))) == {"first", "second"}
    assert failures == 1


def test_a_job_is_announced_before_anything_of_it_is_computed() -> None:
    engine, announced = Engine(pipeline().model), []
    engine.on_start = lambda each: announced.append(each.id)
    engine.submit(job("a"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_prepare", lambda _: pytest.fail("the device is gone"))
        with pytest.raises(pytest.fail.Exception):
            engine.tick()
    assert announced == ["a"]


def test_an_image_for_which_memory_never_suffices_fails() -> None:
    engine = Engine(pipeline().model)
    engine.submit(job("large"))

    def velocity(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.model.dit, "velocity", velocity)
        events = run(engine)
    assert [(e.id, e.code) for e in events if e.kind == "failed"] == [("large", "out_of_memory")]


def test_images_are_seen_as_they_form() -> None:
    engine = Engine(pipeline().model)
    engine.submit(job("first", steps=1))
    (learned,) = images(run(engine)).values()
    each = job("seen", steps=4, partial_steps=frozenset({2}), preview_every=3)
    engine.submit(each)
    events = run(engine)
    (partial,) = [e for e in events if e.kind == "partial"]
    assert partial.step == 2
    assert partial.image is not None
    assert partial.image.size == (64, 64)
    (preview,) = [e for e in events if e.kind == "preview"]
    assert preview.image is not None
    assert preview.image.size == (8, 8)
    # The same image without anybody watching.
    assert difference(images(events)["seen"], alone(each)) <= 1
    small = engine.previews(engine.model.vae.encode([torch.zeros(3, 64, 64)])[0])
    assert small.size == learned.resize((8, 8)).size


def test_nothing_changes_outside_a_mask() -> None:
    original = image("r0").convert("RGB")
    mask = Image.new("L", original.size)
    mask.paste(255, (0, 0, original.width // 2, original.height))
    engine = Engine(pipeline().model)
    options = {"images": [original], "size": None, "steps": 3}
    engine.submit(job("masked", "make it red", mask=mask, **options))
    engine.submit(job("free", "make it red", **options))
    found = images(run(engine))
    half = (original.width // 2, 0, original.width, original.height)
    other = (0, 0, original.width // 2, original.height)
    assert found["masked"].crop(half).tobytes() == original.crop(half).tobytes()
    assert found["free"].crop(half).tobytes() != original.crop(half).tobytes()
    assert difference(found["masked"].crop(other), original.crop(other)) > 10
