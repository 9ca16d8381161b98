"""Help of all commands, in this process; messages are in test_bad_input."""

from __future__ import annotations

import re
import shlex

import pytest

from deepgen.cli import commands
from deepgen.cli.commands import COMMANDS, GROUPS, OVERVIEW
from deepgen.cli.helptext import read_help
from deepgen.cli.main import main

Captured = pytest.CaptureFixture[str]

SCREEN_LINES = 48
"""Of two terminals of the usual height."""


def help_of(name: str, capsys: Captured) -> str:
    assert main([*name.split(" "), "--help"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_is_readable(name: str, capsys: Captured) -> None:
    text = help_of(name, capsys)
    assert text.startswith(f"Usage: deepgen {name}")
    for unwanted in ("{None}", "None|", "(default: )", "(default: None)", "NoneType", " STR", "│"):
        assert unwanted not in text
    assert "\n  --output" not in text  # Its short name comes first, as everywhere.
    # A heading with nothing under it.
    assert not re.search(r"(?m)^[A-Z][^\n]*:\n\n", text)
    examples = text.partition("Examples:\n")[2].splitlines()
    assert examples
    assert all(f"deepgen {name.split(' ')[0]} " in f"{line} " for line in examples)
    groups = re.findall(r"(?m)^[A-Z].*:(?: .*)?$", text)
    assert len(text.splitlines()) <= SCREEN_LINES or len(groups) > 3


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_can_be_parsed(name: str) -> None:
    for example in COMMANDS[name].examples:
        command = re.split(r" [|>] |\)", example.partition("deepgen ")[2])[0]
        words = shlex.split(command)
        if "--config" not in words:
            found, entry, rest = commands.find(words)
            assert found == name
            entry.parse(found, rest)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_lists_its_commands(group: str, capsys: Captured) -> None:
    text = help_of(group, capsys)
    for name in COMMANDS:
        if name.startswith(f"{group} "):
            assert f"\n  {name.split(' ')[1]} " in text


def test_no_command_is_left_out_of_the_list() -> None:
    single = {name for name in COMMANDS if " " not in name}
    assert set(OVERVIEW) == single | set(GROUPS)


def test_the_program_lists_all_commands(capsys: Captured) -> None:
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        text = capsys.readouterr().out
        assert all(f"\n  {name} " in text for name in OVERVIEW)


def test_help_of_a_command_can_be_asked_for_in_front(capsys: Captured) -> None:
    assert main(["help", "data", "import"]) == 0
    assert capsys.readouterr().out == help_of("data import", capsys)


def test_importers_and_recipes_are_listed_a_line_each_whatever_is_given_before_help(
    capsys: Captured,
) -> None:
    text = help_of("data import", capsys)
    assert text.startswith("Usage: deepgen data import [OPTIONS] IMPORTER SRC DST\n")
    assert text.partition("\nImporters:\n")[2].startswith("  folder   ")
    assert help_of("data import folder", capsys) == text
    recipe = help_of("train lora", capsys)
    assert recipe.startswith("Usage: deepgen train lora [OPTIONS]\n")
    assert "\nRecipes:\n  pretrain   " in recipe


def test_the_version_is_shown(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"deepgen \d+\.\d+\S*\n", capsys.readouterr().out)


def test_a_switch_that_is_on_says_what_turning_it_off_means(capsys: Captured) -> None:
    text = " ".join(help_of("train", capsys).split())
    assert "--no-packing Do not compute prompts of different length" in text
    assert "(default: runs/RECIPE)" in text


def test_the_parsers_help_is_understood_in_both_kinds_of_frames() -> None:
    framed = """usage: deepgen x [-h] [X OPTIONS] A

Does it.

╭─ positional arguments ──────╮
│ A           The first.      │
╰─────────────────────────────╯
╭─ data options ──────────────╮
│ Training data.              │
│ ─────────────────────────── │
│ --data {None}|DIR           │
│             One of          │
│             two. (default: None) │
╰─────────────────────────────╯
"""
    plain = """usage: deepgen x [-h] [X OPTIONS] A

Does it.

 positional arguments
 -----------------------------
  A           The first.

 data options
 -----------------------------
  Training data.
  ---------------------------
  --data {None}|DIR
              One of
              two. (default: None)
"""
    first, second = read_help(framed), read_help(plain)
    assert first == second
    assert first.render(["deepgen x 1"]).splitlines() == [
        "Usage: deepgen x [OPTIONS] A",
        "Does it.",
        "",
        "Arguments:",
        "  A                       The first.",
        "",
        "Data: Training data.",
        "  --data DIR              One of two.",
        "",
        "Examples:",
        "  deepgen x 1",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_all_commands_and_options(shell: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("generate", "contamination", "num-images", "caption-key", "lora.rank"):
        assert word in script
