"""Judge prompts, read at run time from the repository of their benchmark.

A rephrased judge prompt is another benchmark, and several repositories state no licence, so the
texts are neither copied nor paraphrased here. Only their places and hashes are stored. Files are
parsed, never executed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deepgen.errors import ScorerError
from deepgen.reading import parse_json, read_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class PinnedFile:
    """One file of a public repository at one commit."""

    repository: str
    """``owner/name`` on GitHub."""
    commit: str
    path: str
    """Inside the repository, with forward slashes."""
    sha256: str | None
    """None where the file is not verified yet; then any file passes."""

    def read(self, folder: Path) -> bytes:
        """The file's bytes.

        Raises:
            ScorerError: The file is missing, or is another version.
        """
        path = folder / self.path
        try:
            data = read_bytes(path)
        except OSError as error:
            raise ScorerError(
                f"{path} cannot be read ({error.strerror}); get it with: git clone "
                f"https://github.com/{self.repository} {folder} && git -C {folder} checkout "
                f"{self.commit}"
            ) from None
        found = hashlib.sha256(data).hexdigest()
        if self.sha256 is not None and found != self.sha256:
            raise ScorerError(
                f"{path} is another version: its SHA-256 is {found}, that of {self.repository} at "
                f"{self.commit} is {self.sha256}; check that commit out"
            )
        return data


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateSource:
    """Where a judge prompt is, and how its scorer fills it."""

    file: PinnedFile
    symbol: str = ""
    """Names from the outside in, separated by slashes: keys of a JSON file; in a Python file
    functions, classes, a variable, keys of a dictionary. ``name#2`` is the second assignment to a
    name that has several, ``@3`` the third string inside a function. Empty means the whole file."""
    style: Literal["plain", "format"] = "plain"
    """Whether braces are literal, or the scorer calls ``format`` on it. The slots of f-strings are
    found without it."""
    marks: tuple[str, ...] = ()
    """Placeholders that the scorer replaces, such as ``<edit_prompt>``."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a template."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """A judge prompt with named slots."""

    parts: tuple[str | Slot, ...]

    @property
    def slots(self) -> frozenset[str]:
        """The names of its slots."""
        return frozenset(part.name for part in self.parts if isinstance(part, Slot))

    def fill(self, values: Mapping[str, str]) -> str:
        """The prompt for one question; values are inserted unchanged.

        Raises:
            ValueError: A slot has no value, or a value no slot.
        """
        if set(values) != self.slots:
            raise ValueError(f"values for {sorted(values)}, expected for {sorted(self.slots)}")
        return "".join(values[part.name] if isinstance(part, Slot) else part for part in self.parts)

    def renamed(self, names: Mapping[str, str]) -> Template:
        """The same with other names for some slots."""
        return Template(
            tuple(
                Slot(names.get(part.name, part.name)) if isinstance(part, Slot) else part
                for part in self.parts
            )
        )

    @property
    def sha256(self) -> str:
        """Hash of its texts and the slots between them."""
        parts = [[part.name] if isinstance(part, Slot) else part for part in self.parts]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def parse_template(text: str) -> Template:
    """A template from a text with slots in braces."""
    return Template(tuple(_format_parts(text)))


def join_templates(templates: Sequence[Template], separator: str) -> Template:
    """Concatenate templates."""
    parts: list[str | Slot] = []
    for template in templates:
        parts += [separator, *template.parts] if parts else template.parts
    return Template(tuple(parts))


def load_template(folder: Path, source: TemplateSource) -> Template:
    """Read a judge prompt from a checkout of its repository.

    Raises:
        ScorerError: The file is missing or another version, or holds no such text.
    """
    data = source.file.read(folder)
    suffix = Path(source.file.path).suffix
    try:
        text = data.decode("utf-8")
        if not source.symbol:
            parts: list[str | Slot] = [text]
        elif suffix == ".json":
            parts = [_json_string(parse_json(text), source.symbol)]
        elif suffix == ".py":
            parts = _string_parts(_find(ast.parse(text), source.symbol.split("/")))
        else:
            raise LookupError(f"a {suffix or 'nameless'} file has no names inside")
    except (LookupError, ValueError, SyntaxError, TypeError) as error:
        raise ScorerError(
            f"{source.file.path} of {source.file.repository} holds no text {source.symbol!r} "
            f"({error})"
        ) from None
    if source.style == "format":
        parts = [new for part in parts for new in _format_parts(part)]
    if source.marks:
        parts = [new for part in parts for new in _mark_parts(part, source.marks)]
    return Template(tuple(parts))


def load_texts(folder: Path, source: TemplateSource) -> dict[str, str]:
    """Read a dictionary of plain texts, such as definitions that a judge prompt quotes.

    Raises:
        ScorerError: The file is missing or another version, or holds no such dictionary.
    """
    data = source.file.read(folder)
    try:
        found = ast.literal_eval(_find(ast.parse(data.decode("utf-8")), source.symbol.split("/")))
        if not isinstance(found, dict) or not all(
            isinstance(text, str) for pair in found.items() for text in pair
        ):
            raise LookupError("it is not a dictionary of texts")
    except (LookupError, ValueError, SyntaxError, TypeError) as error:
        raise ScorerError(
            f"{source.file.path} of {source.file.repository} holds no texts {source.symbol!r} "
            f"({error})"
        ) from None
    return found


def _json_string(value: Any, symbol: str) -> str:
    for name in symbol.split("/"):
        value = value[int(name)] if isinstance(value, list) else value[name]
    if not isinstance(value, str):
        raise LookupError(f"it is a {type(value).__name__}")
    return value


def _find(node: ast.AST, names: list[str]) -> ast.AST:
    """Follow names from a module, function, class or dictionary to their values."""
    for name in names:
        node = _find_one(node, name)
    return node


def _find_one(node: ast.AST, name: str) -> ast.AST:
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == name:
                return value
        raise LookupError(f"no key {name!r}")
    if name.startswith("@"):
        # ast lists keys of a dictionary before its values; numbers follow the text.
        in_order = sorted(_strings(node), key=lambda each: (each.lineno, each.col_offset))
        return _chosen(in_order, int(name[1:]), "strings")
    base, _, number = name.partition("#")
    found = _definitions(node, base)
    if len(found) > 1 and not number:
        raise LookupError(f"{base!r} is assigned {len(found)} times; choose {base}#1 or another")
    return _chosen(found, int(number or 1), f"definitions of {base!r}")


def _chosen(found: Sequence[ast.AST], number: int, kind: str) -> ast.AST:
    if not 1 <= number <= len(found):
        raise LookupError(f"it has {len(found)} {kind}, number {number} was requested")
    return found[number - 1]


def _definitions(scope: ast.AST, name: str) -> list[ast.AST]:
    """Definitions of a name in a scope, in the order of lines, branches and loops included."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found += [node] if node.name == name else []
            continue  # Names inside it belong to another scope.
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            found += [node.value] if node.value is not None else []
        if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case):
            found += _definitions(node, name)
    return found


def _strings(node: ast.AST) -> list[ast.expr]:
    """All strings in a node; the pieces of an f-string or of a sum are one."""
    if isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    ):
        return [node]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        try:
            _string_parts(node)
        except LookupError:
            pass
        else:
            return [node]
    return [found for child in ast.iter_child_nodes(node) for found in _strings(child)]


def _string_parts(node: ast.AST) -> list[str | Slot]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_string_parts(node.left), *_string_parts(node.right)]
    if isinstance(node, ast.JoinedStr):
        return [part for value in node.values for part in _string_parts(value)]
    if isinstance(node, ast.FormattedValue):
        if node.conversion != -1 or node.format_spec is not None:
            raise LookupError(f"the slot {ast.unparse(node.value)!r} is formatted, not only filled")
        return [Slot(ast.unparse(node.value))]
    raise LookupError(f"it is a {type(node).__name__}, expected a string, an f-string or a sum")


def _format_parts(part: str | Slot) -> list[str | Slot]:
    if isinstance(part, Slot):
        return [part]
    parts: list[str | Slot] = []
    try:
        fields = list(string.Formatter().parse(part))
    except ValueError as error:
        raise ScorerError(f"the judge prompt is not a format string ({error})") from None
    for literal, name, spec, conversion in fields:
        parts += [literal] if literal else []
        if name is None:
            continue
        if spec or conversion:
            raise ScorerError(
                f"the slot {name!r} of the judge prompt is formatted, not only filled"
            )
        parts.append(Slot(name))
    return parts


def _mark_parts(part: str | Slot, marks: tuple[str, ...]) -> list[str | Slot]:
    if isinstance(part, Slot):
        return [part]
    pieces = re.split("(" + "|".join(re.escape(mark) for mark in marks) + ")", part)
    return [Slot(piece) if piece in marks else piece for piece in pieces if piece]
