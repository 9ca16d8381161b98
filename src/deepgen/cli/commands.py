"""All commands by name: where each is, and how it is used. Nothing else is imported for a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

from deepgen.errors import UsageError

PROGRAM = "deepgen"


@runtime_checkable
class Command(Protocol):
    """A command with its arguments."""

    def run(self) -> int | None:
        """Do it; an exit code other than 0 is returned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One command of the list."""

    target: str
    """Module and name of its class, or of a function that parses its arguments."""
    text: str
    """What it does, in one line."""
    examples: tuple[str, ...]

    def parse(self, name: str, arguments: Sequence[str]) -> Command:
        """The command with these arguments.

        Raises:
            UsageError: They cannot be used.
            SystemExit: Help was asked for, and printed.
        """
        module, _, attribute = self.target.partition(":")
        found: Any = getattr(import_module(module), attribute)
        if isinstance(found, type):
            from deepgen.cli.parsing import parse

            command: Command = parse(found, arguments, name=name, examples=self.examples)
            return command
        parsed: Command = found(arguments, self.examples)
        return parsed


COMMANDS: Mapping[str, Entry] = {
    "generate": Entry(
        target="deepgen.cli.generate:Generate",
        text="Generate images from a prompt",
        examples=(
            'deepgen generate "an apple on a blue background"',
            'deepgen generate "a cat" -o cats/{i}.png --num-images 4 --seed 7',
            "deepgen generate @prompts.txt --model ./my-model",
        ),
    ),
    "edit": Entry(
        target="deepgen.cli.edit:Edit",
        text="Edit an image by an instruction",
        examples=(
            'deepgen edit "make the background yellow" apple.png',
            'deepgen edit "make it night" photo.jpg -o night.jpg',
            'curl -sL https://example.org/a.jpg | deepgen edit "make it red" - -o - > red.png',
        ),
    ),
    "demo": Entry(
        target="deepgen.cli.demo:Demo",
        text="Draw a small gallery with the embedded model",
        examples=("deepgen demo", "deepgen demo -o gallery --overwrite"),
    ),
    "info": Entry(
        target="deepgen.cli.info:Info",
        text="Show the components of a model, or what an image says of how it was made",
        examples=("deepgen info", "deepgen info ./my-model --memory 8", "deepgen info apple.png"),
    ),
    "serve": Entry(
        target="deepgen.cli.serve:Serve",
        text="Serve a model: a page, and the OpenAI images API",
        examples=(
            "deepgen serve",
            "deepgen serve --model ./my-model --port 9000",
            "deepgen serve --host 0.0.0.0 --api-key-file keys.txt",
        ),
    ),
    "convert": Entry(
        target="deepgen.cli.convert:Convert",
        text="Convert a training checkpoint to a model folder, or back",
        examples=(
            "deepgen convert model.pt ./model --base ./Qwen2.5-VL-3B --base ./DeepGen-1.0 "
            "--lora-alpha 128",
            "deepgen convert ./model model.pt",
            "deepgen convert ./Qwen2.5-VL-3B ./untrained --base ./stable-diffusion-3.5-medium",
        ),
    ),
    "train": Entry(
        target="deepgen.cli.train:parse_train",
        text="Train a model on a data set: pretrain, sft, lora, smoke, mini",
        examples=(
            "deepgen train lora --data ./data --steps 500 --output runs/lora",
            "deepgen train sft --config settings.yaml --dry-run",
            "torchrun --nproc-per-node 8 -m deepgen train sft --data ./data",
        ),
    ),
    "train mini": Entry(
        target="deepgen.cli.train_mini:parse_train_mini",
        text="Train the embedded model from nothing, by all stages",
        examples=("deepgen train mini --dry-run", "deepgen train mini --output runs/mini"),
    ),
    "train report": Entry(
        target="deepgen.cli.train_report:TrainReport",
        text="Write the page of a run: curves, sample images, groups",
        examples=("deepgen train report runs/rl", "deepgen train report runs/sft -o sft.html"),
    ),
    "data import": Entry(
        target="deepgen.cli.data.importing:Import",
        text="Import images with captions, or edits",
        examples=(
            "deepgen data import folder ./photos ./data",
            "deepgen data import table edits.jsonl ./data --images ./images",
            "deepgen data import opengpt4o_image ./OpenGPT-4o-Image ./sets/opengpt4o_image",
        ),
    ),
    "data render-text": Entry(
        target="deepgen.cli.data.render_text:RenderText",
        text="Render texts in English and Chinese as a data set",
        examples=(
            "deepgen data render-text ./data --fonts ./fonts --count 10000",
            "deepgen data render-text ./data --fonts ./fonts --photos ./photos --kinds sign",
        ),
    ),
    "data export": Entry(
        target="deepgen.cli.data.export:Export",
        text="Write a data set as WebDataset, Parquet or a folder",
        examples=(
            "deepgen data export ./data ./tars --format webdataset",
            "deepgen data export ./data ./parquet --format parquet --restricted skip",
        ),
    ),
    "data check": Entry(
        target="deepgen.cli.data.checking:Check",
        text="Read and decode every image of a data set",
        examples=("deepgen data check ./data",),
    ),
    "data preview": Entry(
        target="deepgen.cli.data.preview:Preview",
        text="Show samples as a contact sheet or a page",
        examples=(
            "deepgen data preview ./data sheet.png --count 40",
            "deepgen data preview ./data --html",
        ),
    ),
    "data cache": Entry(
        target="deepgen.cli.data.cache:Cache",
        text="Encode all images once instead of in training",
        examples=("deepgen data cache ./data --model ./my-model",),
    ),
    "data stats": Entry(
        target="deepgen.cli.data.stats:Stats",
        text="Count samples by task, size and length of prompts",
        examples=(
            "deepgen data stats ./data --side 512",
            "deepgen data stats sets/stage2_public.yaml --samples 2000000",
        ),
    ),
    "data mixture": Entry(
        target="deepgen.cli.data.mixture:MixtureFile",
        text="Write a mixture of data sets, such as the paper's",
        examples=("deepgen data mixture stage2_public ./sets",),
    ),
    "data prompts": Entry(
        target="deepgen.cli.data.prompts:Prompts",
        text="Build prompts for reinforcement learning, without any benchmark's",
        examples=(
            "deepgen data prompts prompts/text.jsonl --text 2000",
            "deepgen data prompts prompts/mini.jsonl --mini 5000",
            "deepgen data prompts prompts/own.jsonl --lists captions.txt --license CC0",
        ),
    ),
    "rewards check": Entry(
        target="deepgen.cli.rewards:Check",
        text="Score a folder of images with all rewards",
        examples=(
            "deepgen rewards check ./images",
            'deepgen rewards check ./images --prompt "a sign" --target-texts TEA --rewards ocr',
        ),
    ),
    "rewards serve": Entry(
        target="deepgen.cli.rewards:Serve",
        text="Compute a reward for others, over HTTP",
        examples=("deepgen rewards serve ocr --host 0.0.0.0 --port 8100",),
    ),
    "eval list": Entry(
        target="deepgen.cli.eval:List",
        text="Show the benchmarks and what each needs",
        examples=("deepgen eval list",),
    ),
    "eval fetch": Entry(
        target="deepgen.cli.eval:Fetch",
        text="Download the prompts of benchmarks",
        examples=("deepgen eval fetch geneval wise",),
    ),
    "eval generate": Entry(
        target="deepgen.cli.evaluating:Generate",
        text="Generate the images of a benchmark",
        examples=("deepgen eval generate minibench --output runs/minibench",),
    ),
    "eval score": Entry(
        target="deepgen.cli.scoring:Score",
        text="Score the images of a run, or of any folder",
        examples=(
            "deepgen eval score minibench --output runs/minibench",
            "deepgen eval score geneval --images ./their-images --model-name theirs",
        ),
    ),
    "eval report": Entry(
        target="deepgen.cli.evaluating:Report",
        text="Report the scores of runs as tables and a page",
        examples=("deepgen eval report runs/minibench",),
    ),
    "eval run": Entry(
        target="deepgen.cli.scoring:Run",
        text="Generate, score and report a benchmark",
        examples=("deepgen eval run minibench --limit 50",),
    ),
    "eval contamination": Entry(
        target="deepgen.cli.eval:Contamination",
        text="Find prompts of the benchmarks in training lists",
        examples=("deepgen eval contamination prompts.txt",),
    ),
    "completion": Entry(
        target="deepgen.cli.completion:Completion",
        text="Print a script that completes commands and options",
        examples=(
            'eval "$(deepgen completion bash)"',
            "deepgen completion fish > ~/.config/fish/completions/deepgen.fish",
        ),
    ),
}
"""In the order of their list."""

GROUPS: Mapping[str, str] = {
    "data": "Import images to train on; check, preview, cache and count them; build prompts",
    "rewards": "Rewards of reinforcement learning: score images, serve them to others",
    "eval": "Benchmarks: prompts, images, scores, reports",
}
"""Commands that only lead to others."""

OVERVIEW = (
    *("generate", "edit", "demo", "serve", "info", "convert", "train", "data", "rewards", "eval"),
    "completion",
)


def find(arguments: Sequence[str]) -> tuple[str, Entry, Sequence[str]]:
    """The command that arguments begin with: its name, its entry, and the rest of them.

    Raises:
        UsageError: There is none.
    """
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in COMMANDS and len(arguments) >= length:
            return name, COMMANDS[name], arguments[length:]
    first = arguments[0]
    if first in GROUPS:
        known = [each.split(" ")[1] for each in COMMANDS if each.startswith(f"{first} ")]
        if len(arguments) == 1:
            raise UsageError(f"{PROGRAM} {first} needs one of {', '.join(known)}")
        raise UsageError(_unknown(f"{PROGRAM} {first}", arguments[1], known))
    raise UsageError(_unknown(PROGRAM, first, [*OVERVIEW, "help"]))


def _unknown(program: str, word: str, known: Sequence[str]) -> str:
    import difflib

    like = difflib.get_close_matches(word, known, n=1)
    hint = f"did you mean {like[0]}?" if like else f"expected one of {', '.join(known)}"
    return f"{program} has no command {word!r}; {hint}"


def overview() -> str:
    """The help of the program."""
    rows = [(name, COMMANDS[name].text if name in COMMANDS else GROUPS[name]) for name in OVERVIEW]
    examples = [COMMANDS[name].examples[0] for name in ("generate", "edit")]
    return "\n".join(
        [
            f"Usage: {PROGRAM} COMMAND ...",
            "Text-to-image generation and image editing.",
            "",
            "Commands:",
            *(f"  {name:<12} {text}." for name, text in rows),
            "",
            "Options:",
            f"  {'--help':<12} Show this help; after a command, its options.",
            f"  {'--version':<12} Show the version.",
            "",
            "Examples:",
            *(f"  {each}" for each in examples),
        ]
    )


def group_overview(group: str) -> str:
    """The help of a command that only leads to others."""
    names = [name for name in COMMANDS if name.startswith(f"{group} ")]
    return "\n".join(
        [
            f"Usage: {PROGRAM} {group} COMMAND ...",
            f"{GROUPS[group]}.",
            "",
            "Commands:",
            *(f"  {name.split(' ')[1]:<14} {COMMANDS[name].text}." for name in names),
            "",
            f"  {PROGRAM} {group} COMMAND --help shows the options of each.",
            "",
            "Examples:",
            *(f"  {COMMANDS[name].examples[0]}" for name in names),
        ]
    )
