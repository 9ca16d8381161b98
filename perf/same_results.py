"""Digests of what the package computes, to show that a refactoring changes none of them.

``python perf/same_results.py digests.json`` generates, edits, trains and evaluates through the
command line and the public API alone, so that two versions of the package can be compared;
``--against other.json`` also lists what differs, and then exits with 1. One thread, for a fixed
order of summation; other processors may round otherwise. ``perf/results/same_results.json`` has the
digests of commit 9d824b4, the last before the package was laid out anew.
Golden cases and the judged benchmark need the shared reference data
(``DEEPGEN_SHARED``, else ``../shared`` beside the checkout).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(os.environ.get("DEEPGEN_SHARED", Path(__file__).resolve().parents[2] / "shared"))

PROMPTS = (
    "a cat on a pink background",
    "an apple next to a penguin on a green background",
    "the word HI",
    "a lighthouse at dusk",
    "一只狗",
)

EDITS = ("make the background yellow", "replace the cat with a fox")

STAGES = ("pretrain", "sft", "lora")

SCRIPT = {"": '{"Consistency": 2, "Realism": 1, "Aesthetic Quality": 2}\nConsistency: 2'}


NOT_ALL_SCORED = 3
"""Exit code of an evaluation; here of one whose scripted replies are unreadable."""


def deepgen(*arguments: str | Path) -> str:
    """Run the command line and return its standard output."""
    command = [sys.executable, "-m", "deepgen", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, NOT_ALL_SCORED):
        raise SystemExit(
            f"{' '.join(command)} exited with {done.returncode}: {done.stderr[-2000:]}"
        )
    return done.stdout


def digest(path: Path) -> str:
    """Digest of a file's bytes."""
    return sha256(path.read_bytes()).hexdigest()[:16]


def golden_cases() -> dict[str, str]:
    """Latents and images of the sampling cases, from the small reference model."""
    import torch
    from PIL import Image

    from deepgen import DeepGenPipeline

    torch.set_num_threads(1)
    golden = SHARED / "golden"
    pipe = DeepGenPipeline.from_pretrained(golden / "model", rope_precision="fp32")
    pipe.set_progress_bar_config(disable=True)
    inputs = {path.name.split("_")[0]: path for path in (golden / "inputs").glob("*.png")}
    cases = json.loads((golden / "cases.json").read_text())["sampling"]
    found = {}
    for name, case in cases.items():
        references = case["refs"] and [
            [Image.open(inputs[each]) for each in row] for row in case["refs"]
        ]
        for padding in ("pair", "none", "batch"):
            for kind in ("latent", "pt"):
                values: Any = pipe(
                    case["prompts"],
                    references,
                    negative_prompt=case["negative_prompts"],
                    height=case["height"],
                    width=case["width"],
                    num_inference_steps=case["steps"],
                    guidance_scale=case["cfg"],
                    seed=1,
                    padding=padding,
                    output_type=kind,
                )
                rows = [row.contiguous().numpy().tobytes() for row in values.images]
                found[f"golden/{name}/{padding}/{kind}"] = sha256(b"".join(rows)).hexdigest()[:16]
    return found


def mini_images(folder: Path) -> dict[str, str]:
    """Files that the commands generate and edit with the embedded model."""
    prompts = folder / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS), encoding="utf-8")
    deepgen("generate", f"@{prompts}", "--seed", "7", "--output", folder / "drawn-{i}.png")
    deepgen(
        *("generate", PROMPTS[0], "--seed", "9", "--guidance", "3", "--negative-prompt", "a dog"),
        *("--output", folder / "guided.webp"),
    )
    for number, instruction in enumerate(EDITS, start=1):
        path = folder / f"edited-{number}.png"
        deepgen("edit", instruction, folder / "drawn-1.png", "--seed", "5", "--output", path)
    images = sorted([*folder.glob("*.png"), *folder.glob("*.webp")])
    return {f"mini/{path.name}": digest(path) for path in images}


def write_samples(folder: Path) -> Path:
    """A table of images and edits to train on."""
    from PIL import Image

    folder.mkdir()
    rows = []
    for number in range(24):
        for name, shift in (("before", 0), ("after", 90)):
            image = Image.new("RGB", (96, 96), ((number * 37 + shift) % 256, 120, number * 10))
            image.paste((250 - number * 8, 40, 90), (8, 8, 30 + number * 2, 60))
            image.save(folder / f"{name}-{number}.png")
        rows.append({"image": f"before-{number}.png", "prompt": f"a square, number {number}"})
        if number % 2:
            rows.append(
                {
                    "input_image": f"before-{number}.png",
                    "output_image": f"after-{number}.png",
                    "instruction": f"change the background to number {number}",
                }
            )
    table = folder / "samples.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return table


def training(folder: Path) -> dict[str, str]:
    """Losses, weights and adapters of 20 steps of each stage."""
    data = folder / "data"
    deepgen(
        "data", "import", "table", write_samples(folder / "samples"), data, "--val-fraction", "0.2"
    )
    found = {}
    for stage in STAGES:
        run = folder / stage
        deepgen("train", stage, "--data", data, "--output", run, "--steps", "20")
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        kept = ("loss", "grad_norm", "val/loss")
        losses = [
            [line["step"], sorted((key, line[key]) for key in line if key.startswith(kept))]
            for line in lines
        ]
        found[f"train/{stage}/losses"] = sha256(json.dumps(losses).encode()).hexdigest()[:16]
        for path in sorted(run.glob("*/**/*.safetensors")):
            if "checkpoints" not in path.parts:
                found[f"train/{stage}/{path.relative_to(run)}"] = digest(path)
    return found


def small_model(folder: Path) -> dict[str, str]:
    """Weights of a model trained by all stages from nothing."""
    sizes = {"samples": 100, "batch-size": 4}
    stages = ("autoencoder", "captioning", "label", "pretrain", "sft")
    sizes |= {f"{stage}-steps": 6 for stage in stages}
    run = folder / "mini"
    options = [str(each) for name, size in sizes.items() for each in (f"--{name}", size)]
    deepgen("train", "mini", "--output", run, *options)
    files = sorted((run / "model").rglob("*.safetensors"))
    return {f"train/mini/{path.relative_to(run)}": digest(path) for path in files}


def numbers(value: Any) -> Iterator[float]:
    """All numbers of a JSON value, in order of their keys' places."""
    if isinstance(value, dict):
        for each in value.values():
            yield from numbers(each)
    elif isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def evaluation(folder: Path) -> dict[str, str]:
    """Images and scores of MiniBench, and of a benchmark judged by scripted replies."""
    found = {}
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT), encoding="utf-8")
    wise = ("--data", SHARED / "data/benchmarks/wise", "--judge-url", f"scripted:{script}")
    runs = {
        "minibench": ("--limit", "60"),
        "minibench/version0": ("--limit", "24"),
        "wise": ("--limit", "6", *wise),
    }
    for name, options in runs.items():
        run = folder / name.replace("/", "-")
        printed = deepgen("eval", "run", name, "--output", run, "--json", *options)
        scores = sorted(numbers(json.loads(printed)))
        found[f"eval/{name}/scores"] = sha256(json.dumps(scores).encode()).hexdigest()[:16]
        images = [digest(path) for path in sorted((run / "images").rglob("*.png"))]
        found[f"eval/{name}/images"] = sha256("".join(images).encode()).hexdigest()[:16]
    return found


def main() -> None:
    """Compute all digests, write them, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--against", type=Path)
    arguments = parser.parse_args()
    found = golden_cases()
    with tempfile.TemporaryDirectory() as name:
        for number, part in enumerate((mini_images, training, small_model, evaluation)):
            folder = Path(name) / str(number)
            folder.mkdir()
            found |= part(folder)
    arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.against is None:
        return
    other = json.loads(arguments.against.read_text(encoding="utf-8"))
    differ = [key for key in sorted({*found, *other}) if found.get(key) != other.get(key)]
    print(f"{len(found)} digests, {len(differ)} differ", *differ, sep="\n")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
