"""What a pickle would do, read from its opcodes. Nothing is imported, built or called."""

from __future__ import annotations

import pickletools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

_DOTTED = re.compile(r"[A-Za-z_][\w.]*( [A-Za-z_][\w.]*)")

_ACTS = frozenset({"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "EXT1", "EXT2", "EXT4"})
"""Opcodes that call something, or have something called."""

_STRINGS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})

UNKNOWN = "a name that is made while it is read"
"""Said instead of a global whose name the opcodes do not hold as text."""


class Source(Protocol):
    """What pickletools reads from: a file, or a mapped one."""

    def read(self, size: int = ..., /) -> bytes: ...  # noqa: D102
    def readline(self) -> bytes: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Stream:
    """One pickle as far as it can be read.

    Attributes:
        globals: `module name` pairs that it imports, in order, as `module.name`.
        acts: whether it calls anything.
        ends: whether it comes to its STOP.
        ops: opcodes read.
        problem: why it was not read further.
    """

    globals: tuple[str, ...]
    acts: bool
    ends: bool
    ops: int
    problem: str = ""

    @property
    def is_pickle(self) -> bool:
        """Whether `pickle.load` would do anything with these bytes before it gives up."""
        return self.acts or (self.ends and self.ops > 1)


def read_stream(source: Source, max_ops: int) -> Stream:
    """Read the opcodes of the pickle that begins where `source` stands, at most `max_ops` of them."""
    machine = _Machine()
    ops, acts = 0, False
    try:
        for op, argument in read_ops(source):
            machine.step(op, argument)
            ops += 1
            acts = acts or op.name in _ACTS
            if op.name == "STOP":
                return Stream(tuple(machine.globals), acts, True, ops)
            if ops >= max_ops:
                return Stream(tuple(machine.globals), acts, False, ops, f"more than {max_ops} opcodes")
    except (ValueError, IndexError, MemoryError, OverflowError) as problem:
        said = str(problem)[:120] or type(problem).__name__
        return Stream(tuple(machine.globals), acts, False, ops, said)
    return Stream(tuple(machine.globals), acts, False, ops, "it ends without STOP")


def read_ops(source: Source) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """The opcodes; Python warns of odd escapes in foreign texts, which is nothing to tell whoever imports them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for op, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
            yield op, argument


class _Mark:
    """What MARK leaves on the stack."""


_MARK: Final = _Mark()


class _Machine:
    """The stack and the memo of a pickle, with texts on them as they are and everything else unknown.

    It stops where Python's unpickler would: at an empty stack, at a mark that is missing, at a memo never written. So
    prose that happens to begin with letters that are opcodes is told from a pickle.
    """

    def __init__(self) -> None:
        self.globals: list[str] = []
        self._stack: list[str | _Mark | None] = []
        self._memo: dict[int, str | _Mark | None] = {}

    def step(self, op: pickletools.OpcodeInfo, argument: Any) -> None:  # noqa: ANN401 - of many kinds
        """Go one opcode on.

        Raises:
            ValueError: the unpickler would give up here.
        """
        name = op.name
        if name in _STRINGS:
            self._stack.append(str(argument))
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif name in _PUTS:
            self._memo[int(argument)] = self._top()
        elif name in _GETS:
            self._get(int(argument))
        elif name == "DUP":
            self._stack.append(self._top())
        elif name == "MARK":
            self._stack.append(_MARK)
        elif name == "POP" and self._stack:
            self._stack.pop()
        else:
            self._import(name, argument)
            self._exchange(op)

    def _top(self) -> str | _Mark | None:
        if not self._stack:
            raise ValueError("its stack is empty")
        return self._stack[-1]

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"it asks for memo {index}, which was never written")
        self._stack.append(self._memo[index])

    def _import(self, op: str, argument: Any) -> None:  # noqa: ANN401
        """Note the global that an opcode imports."""
        if op in ("GLOBAL", "INST"):
            self._note(str(argument).replace(" ", "."))
        elif op in ("EXT1", "EXT2", "EXT4"):
            self._note(f"extension registry, code {argument}")
        elif op == "STACK_GLOBAL":
            pair = [one for one in self._stack[-2:] if isinstance(one, str)]
            self._note(".".join(pair) if len(pair) == 2 else UNKNOWN)

    def _note(self, name: str) -> None:
        if name not in self.globals:
            self.globals.append(name)

    def _exchange(self, op: pickletools.OpcodeInfo) -> None:
        """Take from the stack what the opcode takes, and put as much as it puts."""
        takes = len(op.stack_before)
        if pickletools.markobject in op.stack_before:
            self._drop_to_mark()
            takes = op.stack_before.index(pickletools.markobject)
        if takes > len(self._stack) or any(one is _MARK for one in self._stack[len(self._stack) - takes :]):
            raise ValueError("its stack is empty")
        del self._stack[len(self._stack) - takes :]
        self._stack += [None] * len(op.stack_after)

    def _drop_to_mark(self) -> None:
        while self._stack:
            if self._stack.pop() is _MARK:
                return
        raise ValueError("a mark is missing")


def looks_textual(head: bytes) -> bool:
    """Whether bytes that begin like a pickle of protocol 0 import something by a name that can be one."""
    if head[:1] not in (b"c", b"i"):
        return True
    lines = head[1:].split(b"\n", 2)
    if len(lines) < 3:
        return False
    return _DOTTED.fullmatch(b" ".join(lines[:2]).decode("latin-1")) is not None
