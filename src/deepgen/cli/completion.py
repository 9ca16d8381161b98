"""``deepgen completion``: scripts that complete commands and options in a shell."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from deepgen.cli.commands import COMMANDS, GROUPS, OVERVIEW
from deepgen.cli.console import print_result

RECIPE_OF_TRAIN = "lora"
"""All recipes have the same options."""

BASH = """_deepgen() {{
  local words="" key="${{COMP_WORDS[1]}}"
  case "$key" in {groups}) [ "$COMP_CWORD" -gt 2 ] && key="$key ${{COMP_WORDS[2]}}" ;; esac
  case "$key ${{COMP_WORDS[2]}}" in
    "train mini"|"train report") key="$key ${{COMP_WORDS[2]}}" ;;
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="{first}"
  else case "$key" in
{cases}
  esac; fi
  local word="${{COMP_WORDS[COMP_CWORD]}}" plain="" each
  for each in $words; do case "$each" in -*) ;; *) plain="$plain $each" ;; esac; done
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    *) COMPREPLY=($(compgen -W "$plain" -- "$word"))
       [ "$COMP_CWORD" -gt 1 ] && COMPREPLY+=($(compgen -f -- "$word")) ;;
  esac
}}
complete -o filenames -F _deepgen deepgen"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """Print a script that completes commands and options."""

    shell: Positional[Annotated[Literal["bash", "zsh", "fish"], arg(metavar="SHELL")]]
    """bash, zsh or fish."""
    debug: bool = False
    """Show where an error comes from."""

    def run(self) -> None:
        """Print the script."""
        words = {name: _options(name) for name in COMMANDS}
        print_result(_fish(words) if self.shell == "fish" else _bash(words, self.shell))


def _options(name: str) -> list[str]:
    """The options of a command, read from its help."""
    from contextlib import redirect_stdout, suppress
    from io import StringIO

    out = StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        given = [RECIPE_OF_TRAIN] if name == "train" else []
        COMMANDS[name].parse(name, [*given, "--help"])
    return list(dict.fromkeys(re.findall(r"(?m)^  (?:-\w, )?(--[\w.-]+)", out.getvalue())))


def _choices(group: str) -> list[str]:
    return [name.split(" ")[1] for name in COMMANDS if name.startswith(f"{group} ")]


def _bash(words: dict[str, list[str]], shell: str) -> str:
    lines = [f'    "{name}") words="{" ".join(options)}" ;;' for name, options in words.items()]
    lines += [f'    "{group}") words="{" ".join(_choices(group))}" ;;' for group in GROUPS]
    script = BASH.format(
        first=" ".join((*OVERVIEW, "help")), groups="|".join(GROUPS), cases="\n".join(lines)
    )
    return f"autoload -U +X bashcompinit && bashcompinit\n{script}" if shell == "zsh" else script


def _fish(words: dict[str, list[str]]) -> str:
    none = "__fish_use_subcommand"
    lines = [f"complete -c deepgen -n {none} -f -a '{name}'" for name in (*OVERVIEW, "help")]
    for group in GROUPS:
        seen = f"'__fish_seen_subcommand_from {group}'"
        lines += [f"complete -c deepgen -n {seen} -a '{each}'" for each in _choices(group)]
    for name, options in words.items():
        parts = [f"__fish_seen_subcommand_from {part}" for part in name.split(" ")]
        seen = f"'{'; and '.join(parts)}'"
        lines += [f"complete -c deepgen -n {seen} -l {each[2:]}" for each in options]
    return "\n".join(lines)
