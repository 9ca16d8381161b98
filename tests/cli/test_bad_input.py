"""What cannot be used is refused in one line, without torch, and leaves nothing behind.

The whole table runs in one fresh interpreter, because this one has torch loaded already.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.images.test_io import png_header
from tests.shared import golden

# Of computing time: a busy machine makes everybody wait, and that is not ours to test.
LIMIT_SECONDS = 2.0

RUNNER = """
import contextlib, io, json, sys, time
from deepgen.cli.main import main

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    start = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(json.loads(line))
    seconds = time.process_time() - start
    torch = "torch" in sys.modules
    print(json.dumps([code, out.getvalue(), err.getvalue(), seconds, torch]), flush=True)
"""

# Name of the case, command line, and a part of the line that it must give.
CASES = [
    ("empty prompt", ["generate", ""], "the prompt is empty"),
    ("blank prompt", ["generate", "  "], "the prompt is empty"),
    ("no prompt", ["generate"], "PROMPT"),
    ("empty instruction", ["edit", " ", "own.png"], "the instruction is empty"),
    ("prompt file missing", ["generate", "@absent.txt"], "absent.txt"),
    ("prompt file empty", ["generate", "@empty.png"], "empty.png is empty"),
    ("prompt file no text", ["generate", "@own.png"], "not UTF-8"),
    ("prompt too long", ["generate", "a b " * 3000], "4096 is the limit"),
    ("negative too long", ["generate", "a", "--negative-prompt", "a b " * 3000], "4096"),
    ("odd width", ["generate", "a", "--width", "100"], "96 and 128"),
    ("zero height", ["generate", "a", "--height", "0"], "--height"),
    ("negative height", ["generate", "a", "--height", "-64"], "got -64"),
    ("no number", ["generate", "a", "--height", "tall"], "tall"),
    ("beyond the positions", ["generate", "a", "--width", "2048"], "at most 1024"),
    ("no steps", ["generate", "a", "--steps", "0"], "--steps"),
    ("endless steps", ["generate", "a", "--steps", "3000000000"], "--steps"),
    ("endless images", ["generate", "a", "--num-images", "20000000"], "--num-images"),
    ("output name too long", ["generate", "a", "--output", "y" * 300 + ".png"], "too long"),
    ("model name too long", ["generate", "a", "--model", "x" * 300], "too long"),
    (
        "prompt long, vocabulary damaged",
        ["generate", "a b " * 3000, "--model", "garbled"],
        "garbled",
    ),
    ("endless prompts", ["generate", "@/dev/zero"], "it is a device, expected a regular file"),
    ("endless guidance", ["generate", "a", "--guidance", "1e39"], "from 0 to 1000, got 1e+39"),
    ("endless scale", ["generate", "a", "--lora", "own.png:1e38"], "from -1000 to 1000, got 1e+38"),
    ("NaN guidance", ["generate", "a", "--guidance", "nan"], "got nan"),
    ("infinite guidance", ["generate", "a", "--guidance", "inf"], "got inf"),
    ("no images wanted", ["generate", "a", "--num-images", "0"], "--num-images"),
    ("negative seed", ["generate", "a", "--seed", "-1"], "--seed"),
    ("huge seed", ["generate", "a", "--seed", str(2**64)], "--seed"),
    ("unknown device", ["generate", "a", "--device", "abacus"], "abacus"),
    ("unknown dtype", ["generate", "a", "--dtype", "int4"], "int4"),
    ("unknown padding", ["generate", "a", "--padding", "pairs"], "pairs"),
    (
        "unknown option",
        ["generate", "a", "--stepz", "4"],
        "--stepz; did you mean --steps?",
    ),
    (
        "unquoted sentence",
        ["generate", "a", "cat", "on"],
        'quotes: deepgen generate "a cat on"',
    ),
    (
        "word for a number",
        ["generate", "a", "--seed", "abc"],
        "found 'abc', expected a whole number",
    ),
    ("half a step", ["generate", "a", "--steps", "1.5"], "'1.5', expected a whole number"),
    ("no value", ["generate", "a", "--seed"], "--seed needs a value"),
    ("misspelt choice", ["generate", "a", "--device", "cudda"], "did you mean cuda?"),
    ("misspelt recipe", ["train", "lor"], "did you mean lora?"),
    ("misspelt group", ["data", "impot", "a", "b"], "did you mean import?"),
    ("misspelt importer", ["data", "import", "foldr", "a", "b"], "did you mean folder?"),
    ("unknown option of a setting", ["train", "sft", "--lrr", "1"], "did you mean --lr?"),
    (
        "word for a setting",
        ["train", "lora", "--lora.rank", "a"],
        "found 'a', expected a whole number",
    ),
    ("option of other programs", ["generate", "a", "--size", "64"], "use --width and --height"),
    ("unknown option, nothing else", ["eval", "score", "--oops"], "no option --oops"),
    ("words too many", ["info", "mini", "b"], "found b, which deepgen info has no use for"),
    ("unknown command", ["paint", "a"], "paint"),
    ("no such command", ["generat", "a"], "did you mean generate?"),
    ("no command of a group", ["data"], "needs one of import, render-text"),
    ("output format", ["generate", "a", "--output", "a.bmp"], ".webp"),
    ("output exists", ["generate", "a", "--output", "own.png"], "--overwrite"),
    ("output below a file", ["generate", "a", "--output", "own.png/a.png"], "not a folder"),
    ("output is a folder", ["generate", "a", "--output", "folder.png"], "is a folder"),
    ("GGUF missing", ["generate", "a", "--gguf", "absent"], "absent is no GGUF file, nor a folder"),
    (
        "choices in the order of the help",
        ["generate", "a", "--quantize", "int3"],
        "expected int8, fp8 or nf4",
    ),
    (
        "threshold of another cache",
        ["generate", "a", "--cache", "taylor", "--cache-threshold", "0.5"],
        "--cache-threshold is of cache first-block, but cache is taylor",
    ),
    (
        "interval of no cache",
        ["edit", "a", "own.png", "--cache-interval", "3"],
        "--cache-interval is of cache taylor, but cache is none",
    ),
    ("adapter missing", ["generate", "a", "--lora", "absent:0.5"], "no adapter at absent"),
    ("no image", ["edit", "a"], "needs an image"),
    ("image missing", ["edit", "a", "absent.png"], "no image at absent.png"),
    ("second image missing", ["edit", "a", "own.png", "absent.png"], "absent.png"),
    ("image empty", ["edit", "a", "empty.png"], "empty.png is empty"),
    ("image truncated", ["edit", "a", "truncated.png"], "truncated.png is damaged"),
    ("image enormous", ["edit", "a", "bomb.png"], "too large"),
    ("image a drawing", ["edit", "a", "drawing.png"], "drawing.png is an SVG drawing"),
    ("image a text", ["edit", "a", "text.png"], "text.png is text, expected an image"),
    ("image a folder", ["edit", "a", "folder.png"], "is a folder"),
    ("image too slim", ["edit", "a", "slim.png"], "at most 1024"),
    ("model missing", ["generate", "a", "--model", "./absent"], "./absent"),
    ("model a file", ["generate", "a", "--model", "own.png"], "own.png"),
    ("model unknown to the hub", ["info", "nobody/nothing"], "nobody/nothing"),
    ("model without a part", ["info", "partless"], "vae/diffusion_pytorch_model.safetensors"),
    ("model without its index", ["info", "folder.png"], "model_index.json"),
    ("model without words", ["generate", "a", "--model", "wordless"], "tokenizer.json is missing"),
    ("model a pickle", ["generate", "a", "--model", "pickled"], "pickles can run code"),
    ("model truncated", ["generate", "a", "--model", "truncated"], "truncated"),
    ("model with a lying header", ["info", "lying"], "transformer"),
    ("model linking outside", ["generate", "a", "--model", "linking"], "link out of the folder"),
]


MODELS = (
    "whole",
    "partless",
    "pickled",
    "truncated",
    "lying",
    "linking",
    "wordless",
    "garbled",
)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str
    seconds: float
    torch_was_imported: bool


def generate_images(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "own.png")
    whole = (folder / "own.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "bomb.png").write_bytes(png_header(50_000, 50_000))
    (folder / "drawing.png").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (folder / "text.png").write_text("just some text\n")
    (folder / "folder.png").mkdir()
    Image.new("RGB", (4, 400)).save(folder / "slim.png")


def make_models(folder: Path) -> None:
    """Copies of a model, each spoilt in one way."""
    for name in MODELS:
        shutil.copytree(golden("model"), folder / name)
    weights = "diffusion_pytorch_model.safetensors"
    (folder / "partless" / "vae" / weights).unlink()
    pickled = folder / "pickled" / "transformer"
    (pickled / weights).rename(pickled / "diffusion_pytorch_model.bin")
    for name, change in (
        ("truncated", lambda data: data[:-100]),
        ("lying", lambda data: (10**15).to_bytes(8, "little") + data[8:]),
    ):
        path = folder / name / "transformer" / weights
        path.write_bytes(change(path.read_bytes()))
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / "wordless" / "tokenizer" / file).unlink(missing_ok=True)
    (folder / "garbled" / "tokenizer" / "tokenizer.json").write_text("garbage")
    linked = folder / "linking" / "connector" / "config.json"
    linked.unlink()
    linked.symlink_to(folder / "whole" / "connector" / "config.json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad-input")
    generate_images(folder)
    make_models(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(place: Path) -> dict[str, Outcome]:
    """Outcomes of all cases, in one interpreter; the default model is a real one."""
    lines = []
    for _, arguments, _ in CASES:
        given = arguments and arguments[0] in ("generate", "edit") and "--model" not in arguments
        lines.append(json.dumps([*arguments, *(["--model", "whole"] if given else [])]))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(place / "hub")}
    ran = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=place,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr
    results = [Outcome(*json.loads(line)) for line in ran.stdout.splitlines()]
    return {name: result for (name, *_), result in zip(CASES, results, strict=True)}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, _, part in CASES])
def test_it_is_refused_in_one_line(outcomes: dict[str, Outcome], name: str, part: str) -> None:
    outcome = outcomes[name]
    assert outcome.code == 2, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert part in outcome.err
    assert outcome.seconds < LIMIT_SECONDS
    assert not outcome.torch_was_imported


def test_nothing_is_left_behind(outcomes: dict[str, Outcome], place: Path) -> None:
    before = {"own", "truncated", "empty", "bomb", "drawing", "text", "folder", "slim"}
    left = {path.name for path in place.iterdir()} - {"hub"}
    assert left == {f"{name}.png" for name in before} | set(MODELS)


def test_the_first_refusal_of_a_fresh_process_comes_in_time(place: Path) -> None:
    before = os.times()
    ran = subprocess.run(
        [sys.executable, "-m", "deepgen", "edit", "a", "bomb.png"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=place,
    )
    after = os.times()
    assert ran.returncode == 2
    assert "too large" in ran.stderr
    assert after.children_user - before.children_user < LIMIT_SECONDS
