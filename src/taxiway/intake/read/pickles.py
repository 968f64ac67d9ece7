"""What a pickle would do, read from its opcodes. Nothing is imported, built or called."""

from __future__ import annotations

import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

_DOTTED = re.compile(r"[A-Za-z_][\w.]*( [A-Za-z_][\w.]*)")

_ACTS = {"EXT1": 0, "EXT2": 0, "EXT4": 0, "INST": 1, "OBJ": 2, "REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BUILD": 2}
"""Opcodes that call something, or have something called, and how many opcodes must have come before for that."""

_STRINGS = frozenset(
    {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
)

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
    names: list[str] = []
    texts: list[str | None] = []
    memo: dict[int, str | None] = {}
    ops, framing, acts = 0, 0, False
    try:
        for op, argument in _ops(source):
            acts = acts or _ACTS.get(op, ops + 1) <= ops - framing
            framing += op in ("PROTO", "FRAME")
            ops += 1
            _follow(op, argument, texts, memo)
            name = _name(op, argument, texts)
            if name and name not in names:
                names.append(name)
            if op == "STOP":
                return Stream(tuple(names), acts, True, ops)
            if ops >= max_ops:
                return Stream(tuple(names), acts, False, ops, f"more than {max_ops} opcodes")
    except (ValueError, IndexError, MemoryError, OverflowError) as problem:
        return Stream(tuple(names), acts, False, ops, str(problem)[:120] or type(problem).__name__)
    return Stream(tuple(names), acts, False, ops, "it ends without STOP")


def _ops(source: Source) -> Iterator[tuple[str, Any]]:
    for op, argument, _ in pickletools.genops(source):  # type: ignore[arg-type]
        yield op.name, argument


def _follow(op: str, argument: Any, texts: list[str | None], memo: dict[int, str | None]) -> None:  # noqa: ANN401
    """Keep the texts that were pushed last: STACK_GLOBAL takes its two names from the stack."""
    if op in _STRINGS:
        texts.append(str(argument))
    elif op == "MEMOIZE":
        memo[len(memo)] = texts[-1] if texts else None
        return
    elif op in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = texts[-1] if texts else None
        return
    elif op in ("GET", "BINGET", "LONG_BINGET"):
        texts.append(memo.get(int(argument)))
    elif op == "DUP":
        texts.append(texts[-1] if texts else None)
    elif op not in ("PROTO", "FRAME", "STACK_GLOBAL"):
        texts.append(None)
    del texts[:-2]


def _name(op: str, argument: Any, texts: list[str | None]) -> str:  # noqa: ANN401 - of many kinds
    """The global that an opcode imports."""
    if op in ("GLOBAL", "INST"):
        return str(argument).replace(" ", ".")
    if op == "STACK_GLOBAL":
        pair = texts[-2:]
        texts.append(None)
        return ".".join(text for text in pair if text) if len(pair) == 2 and all(pair) else UNKNOWN
    if op in ("EXT1", "EXT2", "EXT4"):
        return f"extension registry, code {argument}"
    return ""


def looks_textual(head: bytes) -> bool:
    """Whether bytes that begin like a pickle of protocol 0 import something by a name that can be one."""
    if head[:1] not in (b"c", b"i"):
        return True
    lines = head[1:].split(b"\n", 2)
    if len(lines) < 3:
        return False
    return _DOTTED.fullmatch(b" ".join(lines[:2]).decode("latin-1")) is not None
