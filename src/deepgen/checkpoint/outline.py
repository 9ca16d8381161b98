"""What a pickle of ``torch.save`` says, found without running it; no torch in here.

The few opcodes that torch writes for dictionaries of tensors are followed on a stack of our own,
on which nothing is called, hashed or compared but texts and numbers.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deepgen.errors import CheckpointError, reason_of, shown

MAX_OPCODES = 400_000
"""The released model takes 65,000; a million take a second."""

MAX_GLOBALS = 1000
"""Each name is written once, and referred to afterwards; to read one takes long."""

MAX_DIMENSIONS = 8
MAX_LENGTH = 1 << 48
"""No memory holds more; to multiply thousands of long numbers takes minutes."""

ITEM_BYTES = {
    "Float": 4,
    "Half": 2,
    "BFloat16": 2,
    "Double": 8,
    "Long": 8,
    "Int": 4,
    "Short": 2,
    "Char": 1,
    "Byte": 1,
    "Bool": 1,
}
"""Of the kinds of storage."""

DTYPES = {"Float": "float32", "BFloat16": "bfloat16", "Half": "float16"}
"""What weights may be stored as."""

DICTIONARY = "collections OrderedDict"
SIZE = "torch Size"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
STORAGES = {f"torch {kind}Storage": kind for kind in ITEM_BYTES}
ALLOWED = frozenset({DICTIONARY, SIZE, TENSOR, PARAMETER, *STORAGES})
"""What a state dict needs. Everything else that a pickle may name is refused."""


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A record of the archive, as the pickle describes it."""

    kind: str
    key: str
    """Name of the record."""
    size: int
    """Number of values."""

    @property
    def bytes(self) -> int:
        """What the record must have at least."""
        return self.size * ITEM_BYTES[self.kind]


@dataclass(frozen=True, slots=True, eq=False)
class PickledTensor:
    """A tensor, as the pickle describes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is dense and contiguous, of a dtype for weights, and within its storage."""
        size = 1
        for length, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if length > 1 and stride != size:
                return False
            size *= length
        return (
            self.storage.kind in DTYPES
            and self.offset >= 0
            and self.offset + math.prod(self.shape) <= self.storage.size
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Global:
    name: str


_MARK = _Global("mark")
"""What MARK leaves on the stack; wherever it ends up, nothing accepts it."""


def read_outline(pickle: bytes) -> tuple[Any, list[Storage]]:
    """What a pickle would give, with ``PickledTensor`` in place of tensors; and all its storages.

    Raises:
        CheckpointError: It is damaged, or has more than dictionaries of tensors and plain values.
    """
    machine = _PickleReader()
    try:
        machine.run(pickle)
        (value,) = machine.stack
    except CheckpointError:
        raise
    except Exception as cause:
        # The reader of opcodes and wrong operands raise whatever their parts do.
        raise CheckpointError(f"its data.pkl is damaged: {shown(reason_of(cause))}") from cause
    return value, machine.storages


class _PickleReader:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: list[Storage] = []

    def run(self, pickle: bytes) -> None:
        """Follow all opcodes.

        Raises:
            CheckpointError: One is not written by torch for tensors, or there are too many.
        """
        stack = self.stack
        argument: Any
        names = 0
        for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
            name = opcode.name
            if count >= MAX_OPCODES:
                raise CheckpointError(f"it has more than {MAX_OPCODES:,} opcodes")
            if name in VALUES:
                stack.append(argument)
            elif name in CONSTANTS:
                stack.append(CONSTANTS[name]())
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(self.memo[argument])
            elif name in COUNTS:
                stack[-COUNTS[name] :] = [tuple(stack[-COUNTS[name] :])]
            elif name == "GLOBAL":
                names += 1
                if names > MAX_GLOBALS:
                    raise CheckpointError(f"its data.pkl names code more than {MAX_GLOBALS} times")
                stack.append(_Global(_allowed(argument)))
            elif name not in ("PROTO", "STOP"):
                self._build(name)

    def _build(self, name: str) -> None:
        """Follow an opcode that makes a value of several."""
        stack = self.stack
        if name == "TUPLE":
            stack.append(tuple(self._marked()))
        elif name in ("APPEND", "APPENDS"):
            values = [stack.pop()] if name == "APPEND" else self._marked()
            _expect(list, stack[-1]).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else self._marked()
            _set_items(_expect(dict, stack[-1]), values)
        elif name == "BINPERSID":
            stack.append(self._storage(*_expect(tuple, stack.pop())))
        elif name == "REDUCE":
            arguments = _expect(tuple, stack.pop())
            stack.append(_called(_expect(_Global, stack.pop()).name, arguments))
        elif name == "BUILD":
            # Attributes of a dictionary, such as the versions of a state dict's modules.
            _expect(dict, stack.pop())
            _expect(dict, stack[-1])
        else:
            raise _refused(f"opcode {name}")

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def _storage(self, word: Any, kind: Any, key: Any, location: Any, size: Any) -> Storage:
        if (word, type(key), type(location), type(size)) != ("storage", str, str, int) or size < 0:
            raise ValueError("a record is described in an unknown way")
        storage = Storage(STORAGES[_expect(_Global, kind).name], key, size)
        self.storages.append(storage)
        return storage


CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
}
VALUES = frozenset({"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"})
COUNTS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _set_items(target: dict[Any, Any], values: list[Any]) -> None:
    for key, value in zip(values[::2], values[1::2], strict=True):
        # To hash a tuple of tuples of tuples can take forever.
        if type(key) not in (str, int):
            raise CheckpointError(f"it has a key that is no text but {type(key).__name__}")
        if key in target:
            raise CheckpointError(f"it has {shown(key)} twice")
        target[key] = value


def _called(name: str, arguments: tuple[Any, ...]) -> Any:
    """What one of the allowed functions would give."""
    if name == DICTIONARY and not arguments:
        return {}
    if name == SIZE:
        (lengths,) = arguments
        return _lengths(lengths)
    if name == PARAMETER:
        return _expect(PickledTensor, arguments[0])
    if name == TENSOR:
        storage, offset, shape, strides = arguments[:4]
        shape, strides = _lengths(shape), _lengths(strides)
        if type(offset) is not int or len(shape) != len(strides):
            raise ValueError("a tensor is described in an unknown way")
        return PickledTensor(_expect(Storage, storage), offset, shape, strides)
    raise ValueError(f"{name} is called with {len(arguments)} values")


def _lengths(values: Any) -> tuple[int, ...]:
    if len(_expect(tuple, values)) > MAX_DIMENSIONS:
        raise ValueError(f"a shape has more than {MAX_DIMENSIONS} dimensions")
    if not all(type(each) is int and 0 <= each < MAX_LENGTH for each in values):
        raise ValueError("a shape is not one of whole numbers")
    lengths: tuple[int, ...] = values
    return lengths


def _expect(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{type(value).__name__} where {kind.__name__} is expected")
    return value


def _allowed(name: str) -> str:
    if name not in ALLOWED:
        raise _refused(name)
    return name


def _refused(found: str) -> CheckpointError:
    return CheckpointError(
        f"it holds more than tensors ({shown(found)}) and is not opened; save the state dict "
        "alone, or as safetensors"
    )
