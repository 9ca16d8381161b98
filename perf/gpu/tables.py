"""Plan ``tables``: speed and memory at the released size, with random weights.

Rows come in order of importance: those with goals first. More rows are more lines of ``TASKS``;
``seconds`` include compiling, and ``gib`` is what a row needs at least.
"""

from __future__ import annotations

from denoising import Case

from deepgen.config.memory import Quantization
from gpu.images import ImageRow
from gpu.loop import GRAPHS, OWN, LoopRow
from gpu.plan import Plan, Task
from gpu.presets import PresetRow
from gpu.profiles import LoopProfile, TrainingProfile
from gpu.training import TrainingRow

ONE = Case(steps=50)
EIGHT = Case(steps=50, images=8)
EDIT = Case(steps=50, references=1, context_tokens=448)
"""Context: an instruction and think tokens as of a caption, and 288 tokens of an image."""

ONE_GOALS = {"of_diffusers_eager": 0.6, "of_diffusers_compiled": 0.95, "of_floor": 1.4}

QUANTIZED: tuple[tuple[Quantization, int], ...] = (("int8", 6), ("fp8", 6), ("nf4", 6))
"""Kinds, and the smallest preset that holds each at 512 px."""

TASKS = (
    Task(name="loop_1", run=LoopRow(case=ONE, goals=ONE_GOALS), seconds=130, gib=8),
    Task(
        name="loop_8",
        run=LoopRow(case=EIGHT, repeats=3, goals={"of_floor": 1.35}),
        seconds=220,
        gib=20,
    ),
    Task(
        name="loop_edit",
        run=LoopRow(case=EDIT, repeats=3, goals={"of_floor": 1.4}),
        seconds=150,
        gib=10,
    ),
    Task(name="image", run=ImageRow(goals={"peak_gib": 12.5}), seconds=40, gib=14),
    Task(
        name="image_offloaded",
        run=ImageRow(offloaded=True, goals={"peak_gib": 9.0}),
        seconds=60,
        gib=14,
    ),
    Task(name="stage_1", run=TrainingRow(stage="pretrain"), seconds=70, gib=30),
    Task(name="stage_2", run=TrainingRow(stage="sft"), seconds=90, gib=60),
    Task(name="profile_loop", run=LoopProfile(case=Case(steps=5)), seconds=20, gib=8),
    Task(
        name="profile_stage_2",
        run=TrainingProfile(row=TrainingRow(stage="sft")),
        seconds=60,
        gib=60,
    ),
    Task(name="stage_2_compiled", run=TrainingRow(stage="sft", compiled=True), seconds=200, gib=60),
    Task(
        name="stage_1_compiled",
        run=TrainingRow(stage="pretrain", compiled=True),
        seconds=180,
        gib=30,
    ),
    Task(name="loop_1_graphs", run=LoopRow(case=ONE, sides=GRAPHS), seconds=300, gib=12),
    Task(name="image_recorded", run=ImageRow(recorded=True), seconds=150, gib=14),
    *(
        Task(name=f"preset_{memory}", run=PresetRow(memory=memory), seconds=90, gib=14)
        for memory in (24, 16, 12, 8, 6)
    ),
    *(
        Task(
            name=f"preset_{memory}_{kind}",
            run=PresetRow(memory=memory, quantization=kind),
            seconds=150,
            gib=14,
        )
        for kind, memory in QUANTIZED
    ),
    Task(name="image_ab2_20", run=ImageRow(solver="ab2", steps=20), seconds=40, gib=14),
    Task(name="image_first_block", run=ImageRow(cache="first-block"), seconds=60, gib=14),
    Task(name="image_taylor", run=ImageRow(cache="taylor"), seconds=60, gib=14),
    Task(name="image_compiled", run=ImageRow(compiled=True), seconds=90, gib=14),
    Task(name="image_edit", run=ImageRow(references=1), seconds=50, gib=16),
    Task(
        name="image_edit_offloaded", run=ImageRow(references=1, offloaded=True), seconds=60, gib=16
    ),
    Task(name="image_two_references", run=ImageRow(references=2), seconds=60, gib=16),
    Task(name="images_8", run=ImageRow(images=8, repeats=2), seconds=70, gib=20),
    Task(
        name="images_8_differing_prompts",
        run=ImageRow(images=8, repeats=2, differing_prompts=True),
        seconds=70,
        gib=20,
    ),
    Task(name="image_1024", run=ImageRow(side=1024), seconds=60, gib=18),
    Task(
        name="loop_1024",
        run=LoopRow(case=Case(steps=20, height=128, width=128), repeats=3),
        seconds=150,
        gib=10,
    ),
    Task(
        name="loop_32",
        run=LoopRow(case=Case(steps=5, images=32), repeats=2, sides=OWN),
        seconds=120,
        gib=40,
    ),
    Task(
        name="loop_8_edit",
        run=LoopRow(
            case=Case(steps=10, images=8, references=1, context_tokens=448), repeats=2, sides=OWN
        ),
        seconds=120,
        gib=30,
    ),
    Task(name="images_32", run=ImageRow(images=32, steps=20, repeats=1), seconds=120, gib=40),
    Task(
        name="images_8_1024",
        run=ImageRow(images=8, side=1024, steps=20, repeats=1),
        seconds=120,
        gib=40,
    ),
    Task(
        name="profile_stage_1",
        run=TrainingProfile(row=TrainingRow(stage="pretrain")),
        seconds=60,
        gib=30,
    ),
)

PLAN = Plan(name="tables", tasks=TASKS)
