"""Commands of small runs."""

from pathlib import Path


def arguments_for(data: Path, output: Path, *more: str) -> list[str]:
    small = ("--steps", "4", "--save-every", "2", "--log-every", "1", "--microbatch-size", "1")
    return ["train", "smoke", "--data", str(data), "--output", str(output), *small, *more]
