"""Runs one function of somebody's: `python -m taxiway.control.function_process FD`, started by functions.py alone.

It is told which over the socket FD, and then asked; each frame is its length and MessagePack. The function knows
nothing but what it is given.
"""

from __future__ import annotations

import ctypes
import importlib.util
import inspect
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np

from taxiway.rollout.predictions import numbers_of

_LENGTH = struct.Struct("!I")
_MAX_BYTES = (1 << 32) - 1
_PR_SET_PDEATHSIG = 1
"""prctl(2): to be killed when whoever started this process is gone."""


def main() -> None:
    """Answer until the other side hangs up."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    function: Callable[..., Any] | None = None
    while (asked := receive(channel)) is not None:
        try:
            if function is None:
                function = _load(asked)
                send(channel, {"loaded": True})
            else:
                send(channel, {"scores": [_score(function, one, asked["feedback"]) for one in asked["answers"]]})
        except BaseException as problem:  # noqa: BLE001 - the boundary: whatever the function does is told
            send(channel, {"problem": f"{type(problem).__name__}: {problem}"[:500]})


def receive(channel: socket.socket, at_most: int = _MAX_BYTES) -> Any:  # noqa: ANN401 - plain data
    """The next frame; None: the other side has hung up, or sends one that is larger than that."""
    head = _exactly(channel, _LENGTH.size)
    size = at_most + 1 if head is None else _LENGTH.unpack(head)[0]
    body = None if size > at_most else _exactly(channel, size)
    return None if body is None else msgspec.msgpack.decode(body)


def send(channel: socket.socket, words: Mapping[str, Any]) -> None:
    """One frame."""
    body = msgspec.msgpack.encode(words)
    channel.sendall(_LENGTH.pack(len(body)) + body)


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    read = bytearray()
    while len(read) < size:
        more = channel.recv(min(size - len(read), 1 << 20))
        if not more:
            return None
        read += more
    return bytes(read)


def _load(asked: Mapping[str, Any]) -> Callable[..., Any]:
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory_bytes"], asked["memory_bytes"]))
    os.nice(10)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever the function does then
    file = Path(asked["file"])
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    function = getattr(module, asked["name"], None)
    if not callable(function):
        raise AttributeError(f"{file.name} has no function {asked['name']}")  # noqa: TRY004 - it may not be there at all
    try:
        inspect.signature(function).bind(*[None] * asked["arguments"])
    except TypeError:
        wanted = "(answer)" if asked["arguments"] == 1 else "(answer, feedback)"
        raise TypeError(f"{asked['name']} must be callable as {asked['name']}{wanted}") from None
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{asked['name']} must be an ordinary function, not an async one")
    made: Callable[..., Any] = function
    return made


def _score(function: Callable[..., Any], answer: Sequence[Any], feedback: Mapping[str, Any] | None) -> float | None:
    inputs, outputs = ({tensor["name"]: _array(tensor) for tensor in tensors} for tensors in answer)
    given = SimpleNamespace(inputs=inputs, outputs=outputs)
    score = function(given) if feedback is None else function(given, SimpleNamespace(**feedback))
    if score is None:
        return None
    value = float(score)
    if not 0 <= value <= 1:
        raise ValueError(f"a score must be from 0 to 1, or None: {value}")
    return value


def _array(tensor: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an array of any type
    if tensor["datatype"] == "BYTES":
        return np.asarray(_texts(tensor["data"]), object).reshape(tensor["shape"])
    return numbers_of(tensor["datatype"], tensor["data"]).reshape(tensor["shape"])


def _texts(data: bytes) -> list[str | bytes]:
    """Texts, and what is none as it is."""
    texts: list[str | bytes] = []
    place = 0
    while place + 4 <= len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        text = data[place + 4 : place + 4 + size]
        try:
            texts.append(text.decode())
        except UnicodeDecodeError:
            texts.append(text)
        place += 4 + size
    return texts


if __name__ == "__main__":
    main()
