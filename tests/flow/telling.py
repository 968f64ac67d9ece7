"""A decoupled model whose answers each request spells out, in a real server: only what runs the model is ours.

The request's `x` is a script, one number an instruction, each carried out in a turn of the event loop of its own:

    n >= 0    an answer: y = [n], and z = [n] beside it if n is even
    ERROR     an error in the place of an answer
    PAUSE     nothing further until the test says `go_on`
    FLOOD     answers of 1 MiB, without end
    FINAL     the end, with a last answer y = [7], z = [7]
    REJECT    the end, by an error

A script that ends without either is at its end without another answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler, save, tensor
from tests.support.raw_http import wait_until

from taxiway.core.errors import ModelFailed
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import NEVER_NS, NO_MORE, BatchResult, InferRequest, RequestState, StreamResponder
from taxiway.server.models.assembling import Assembler

ERROR, PAUSE, FLOOD, FINAL, REJECT = -1, -2, -3, -4, -5
FLOOD_ELEMENTS = 131_072
_CONFIG = """\
input { name: "x" data_type: TYPE_INT64 dims: [ -1 ] }
output { name: "y" data_type: TYPE_INT64 dims: [ -1 ] }
output { name: "z" data_type: TYPE_INT64 dims: [ -1 ] }
model_transaction_policy { decoupled: true }
"""

Done = Callable[[list[InferRequest], BatchOutcome], None]


class TellingExecutor:
    """Answers as each request's script says."""

    slots = 64

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._paused: list[Callable[[], None]] = []
        self.abandoned: list[str | None] = []
        """Ids of requests that nobody waited for any more while they ran."""
        self.running = 0

    # --- the executor's face ------------------------------------------------------------------------------

    def submit(self, batch: list[InferRequest], done: Done) -> None:
        """Begin; `batch` is one request."""
        (request,) = batch
        script = list(np.frombuffer(request.inputs[0].data, np.int64)) if request.inputs[0] is not None else []
        self.running += 1
        self._loop.call_soon(self._step, request, iter([int(word) for word in script]), done, monotonic_ns())

    def run_here(self, batch: list[InferRequest]) -> BatchOutcome | None:
        """Not at once."""

    def abandon(self, request: InferRequest) -> None:
        """Noted; what runs looks at its state itself."""
        self.abandoned.append(request.id)

    def running_since_ns(self) -> int:
        """Nobody asks."""
        return NEVER_NS

    def close(self) -> None:
        """Nothing is held."""

    # --- for tests ----------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Have all that are at a PAUSE go on; there must be one, or there will be."""
        wait_until(lambda: bool(self._paused), "something pauses")
        self._loop.call_soon_threadsafe(self._go_on)

    def pausing(self) -> int:
        """How many are at a PAUSE."""
        return len(self._paused)

    def _go_on(self) -> None:
        paused, self._paused = self._paused, []
        for step in paused:
            step()

    # --- one instruction ----------------------------------------------------------------------------------

    def _step(self, request: InferRequest, script: Iterator[int], done: Done, began_ns: int) -> None:
        def next_step() -> None:
            self._loop.call_soon(self._step, request, script, done, began_ns)

        def end(**how: Any) -> None:
            self.running -= 1
            done([request], BatchOutcome(started_ns=began_ns, finished_ns=monotonic_ns(), **how))

        word = next(script, None)
        responder = cast("StreamResponder", request.responder)
        if request.state is not RequestState.RUNNING or word is None:
            end(result=NO_MORE)
        elif word == FINAL:
            end(result=_answer(7))
        elif word == REJECT:
            end(error=ModelFailed("the model is done for"))
        elif word == PAUSE:
            self._paused.append(next_step)
        elif word == FLOOD:
            responder.part(request, BatchResult(("y",), (np.zeros(FLOOD_ELEMENTS, np.int64),), 1))
            self._loop.call_soon(self._step, request, iter((FLOOD,)), done, began_ns)
        else:
            responder.part(request, ModelFailed("not this one") if word == ERROR else _answer(word))
            next_step()


def _answer(number: int) -> BatchResult:
    array = np.array([number], np.int64)
    if number % 2:
        return BatchResult(("y",), (array,), 1)
    return BatchResult(("z", "y"), (array, array), 1)


def write_teller(folder: Path) -> Path:
    """Its files, and beside it a model that answers once: `doubler`."""
    free = ["N"]
    kind = TensorProto.INT64
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["x"], ["z"])]
    outputs = [tensor("y", free, kind), tensor("z", free, kind)]
    save(folder / "teller" / "1" / "model.onnx", nodes, [tensor("x", free, kind)], outputs)
    (folder / "teller" / "config.pbtxt").write_text(_CONFIG)
    doubler(folder / "doubler.onnx")
    return folder


class Telling:
    """A server with both models."""

    def __init__(self, server: Server, executor: TellingExecutor) -> None:
        self.server = server
        self.executor = executor

    def series(self, name: str, **labels: str) -> float:
        """A metric's value."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.server.scrape().splitlines()
        found = [line for line in lines if line.startswith(name) and all(one in line for one in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


@contextlib.contextmanager
def serve_teller(folder: Path, **flags: object) -> Iterator[Telling]:
    """Serve both until the block ends."""
    made: list[TellingExecutor] = []
    usual = Assembler._executor

    def executor(self: Assembler, completed: Any, curve: Any, *, measured: bool) -> Any:
        if not completed.spec.decoupled:
            return usual(self, completed, curve, measured=measured)
        made.append(TellingExecutor(self._host.loop))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Assembler, "_executor", executor)
        with serve([write_teller(folder)], **flags) as server:
            yield Telling(server, made[-1])


def in_background(work: Callable[[], object]) -> threading.Thread:
    """Have something done meanwhile."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
