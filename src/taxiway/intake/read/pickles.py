"""What a pickle would do, read from its opcodes. Nothing is imported, built or called."""

from __future__ import annotations

import codecs
import pickle  # for a number: nothing is loaded here
import pickletools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

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
    def tell(self) -> int: ...  # noqa: D102
    def seek(self, pos: int, whence: Literal[0, 2] = ..., /) -> object: ...  # noqa: D102


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
    """The opcodes and their arguments, as Python's unpickler in C reads them.

    pickletools reads most of them alike, and stops at some that the unpickler goes on from: `I0x10`, `L0x10L`, texts
    that are not ASCII. What stops only us is a way past us, so nothing is parsed that need not be. Arguments that are
    longer than any name are stepped over, and are empty here.

    Raises:
        ValueError: the unpickler would give up here, or soon.
    """
    while True:
        code = source.read(1)
        op = _OPCODES.get(code)
        if op is None:
            raise ValueError(f"at position {source.tell()}, opcode {code!r} is unknown" if code else "it is cut off")
        yield op, _argument(op, source)
        if op.name == "STOP":
            return


def _argument(op: pickletools.OpcodeInfo, source: Source) -> Any:  # noqa: ANN401 - of many kinds
    if op.arg is None:
        return None
    if op.arg.n == pickletools.UP_TO_NEWLINE:
        return _line(op.name, source)
    if op.arg.n >= 0:
        return int.from_bytes(_exactly(op.arg.n, source), "little")  # of floats too: nobody asks for their value
    size = int.from_bytes(_exactly(_LENGTH_BYTES[op.arg.n], source), "little", signed=op.arg.n in _SIGNED)
    if size < 0:
        raise ValueError(f"{op.name} has a length of {size}")
    data = _exactly(size, source) if size <= _LONGEST_NAME else _step_over(size, source)
    return data.decode("utf-8", "replace") if op.name in _STRINGS else data


_OPCODES: Final = {op.code.encode("latin-1"): op for op in pickletools.opcodes}
_LENGTH_BYTES: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_SIGNED: Final = (pickletools.TAKEN_FROM_ARGUMENT4,)
_LONGEST_NAME: Final = 64 << 10
_SHORT_LINE: Final = 256
_QUOTES: Final = (b"'", b'"')


def _line(op: str, source: Source) -> str | int:
    line = _read_line(source)
    if op in ("GLOBAL", "INST"):
        return f"{line.decode('utf-8', 'replace')} {_read_line(source).decode('utf-8', 'replace')}"
    if op == "STRING":
        return _unquoted(line.rstrip())
    text = line.decode("utf-8", "replace")
    if op in ("PUT", "GET"):
        return int(text)
    if op in ("INT", "LONG"):
        _check_number(text.strip().removesuffix("L").lstrip("+-"))
    elif op == "FLOAT":
        float(text)
    return text


def _read_line(source: Source) -> bytes:
    """Up to the next line break; of a line that is longer than any name, its beginning and its end."""
    line, piece = b"", _SHORT_LINE
    while chunk := source.read(piece):
        end = chunk.find(b"\n")
        if end >= 0:
            source.seek(source.tell() - len(chunk) + end + 1, 0)
            return line + chunk[:end]
        line = line[:_LONGEST_NAME] + chunk[-1:] if len(line) > _LONGEST_NAME else line + chunk
        piece = _LONGEST_NAME
    raise ValueError("a line does not end")


def _check_number(text: str) -> None:
    """Decimal, octal as C writes it, or with Python's prefixes: whatever one of C's and Python's readers takes."""
    if text and not text.isdecimal():
        int(text, 0)


def _unquoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] not in _QUOTES or line[:1] != line[-1:]:
        raise ValueError("a text without quotes")
    if len(line) > _LONGEST_NAME:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd escapes in foreign texts
        unescaped, _ = codecs.escape_decode(line[1:-1])
    return str(unescaped, "utf-8", "replace")


def _exactly(size: int, source: Source) -> bytes:
    data = source.read(size)
    if len(data) < size:
        raise ValueError(f"{size} bytes are expected, where {len(data)} are left")
    return data


def _step_over(size: int, source: Source) -> bytes:
    """A gigabyte of numbers is not copied to be looked at."""
    start = source.tell()
    source.seek(0, 2)  # which mmap's answers only from Python 3.13 on
    end = source.tell()
    if size > end - start:
        raise ValueError(f"{size} bytes are expected, where {end - start} are left")
    source.seek(start + size, 0)
    return b""


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
        if name == "PROTO" and argument > pickle.HIGHEST_PROTOCOL:
            raise ValueError(f"it is of protocol {argument}")
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
