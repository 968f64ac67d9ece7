"""Take walks (lifecycle.py) with both servers, each on a repository of its own, and compare after every step.

In: a walk. Out: an exchange for every question of it, and for every question about the state after each step.

Both servers control their models explicitly and begin with nothing loaded. An unload goes on after its answer, so
the state is asked for once neither server is loading or unloading. The index is compared as a set; of the reasons it
gives only whether there is one, and whether it is that the version was unloaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.oracle.compare import Answer, Exchange, differences
from tests.oracle.deviations import Deviation, declared
from tests.oracle.lifecycle import TRITON, Change, Files, Question, Walk, observations
from tests.oracle.replies import OK, Call, CallExchange, Reply, exchanges
from tests.oracle.requests import Request
from tests.oracle.servers import Clients, TaxiwayServer
from tools.oracle_triton import TritonInstall, TritonServer
from tritonclient.grpc import service_pb2

INDEX: Final = Request("POST", "/v2/repository/index")
SETTLE_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02


@dataclasses.dataclass(frozen=True)
class Side:
    """One of the two servers with its repository."""

    files: Files
    clients: Clients

    def settle(self) -> None:
        """Return once nothing is being loaded or unloaded."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while b"LOADING" in (answer := self.clients.ask(INDEX)).body:
            if time.monotonic() > deadline:
                raise TimeoutError(f"still loading or unloading after {SETTLE_TIMEOUT_S:g} s: {answer.body!r}")
            time.sleep(POLL_S)


class Walker:
    """Takes walks, each with fresh servers.

    Args:
        triton: the real one, to start from.
        root: a folder for repositories and logs.
        against: whom to compare it with; TRITON for another real one.
        deviations: what may differ; a walk ends after the step that one of them says is the last to compare, and
            after a step whose difference is not declared.
    """

    at_once: Final = 10
    """Walks that may be taken at the same time: real Triton spends most of a load waiting."""

    def __init__(self, triton: TritonInstall, root: Path, against: str, deviations: Sequence[Deviation]) -> None:
        self._triton = triton
        self._root = root
        self._against = against
        self._deviations = deviations
        self._numbers = itertools.count()

    def take(self, walk: Walk) -> tuple[Exchange | CallExchange, ...]:
        """Every exchange of that walk; each knows the steps that led to it."""
        folder = self._root / str(next(self._numbers))
        with contextlib.ExitStack() as stack:
            sides = [
                stack.enter_context(self._side(folder / role, backend))
                for role, backend in (("triton", TRITON), ("other", self._against))
            ]
            return tuple(self._exchanges(walk, *sides))

    @contextlib.contextmanager
    def _side(self, folder: Path, backend: str) -> Iterator[Side]:
        files, log = Files(folder / "models", backend), folder / "log"
        files.reset()
        server: TritonServer | TaxiwayServer
        if backend == TRITON:
            server = TritonServer(self._triton, files.root, models=(), log=log, stop_timeout_s=0)
        else:
            server = TaxiwayServer(files.root, log, ("--models.control", "explicit", "--models.load", "[]"))
        with server:
            clients = Clients(server.http_port, server.grpc_port)
            yield Side(files, clients)
            clients.close()

    def _exchanges(self, walk: Walk, triton: Side, other: Side) -> Iterator[Exchange | CallExchange]:
        for number, step in enumerate(walk.steps):
            if isinstance(step, Change):
                step.apply(triton.files)
                step.apply(other.files)
                continue
            history = tuple(map(str, walk.steps[: number + 1]))
            found = list(_put(step, triton, other, history))
            if any(map(self._parts_ways, found)):
                yield from found
                return
            triton.settle()
            other.settle()
            for asked in observations(number):
                found.extend(_put(Question(asked, asked, ""), triton, other, history))
            yield from found
            if any(map(self._parts_ways, found)) or not all(map(self._intended, found)):
                return

    def _parts_ways(self, exchange: Exchange | CallExchange) -> bool:
        """Whether the servers are known to serve different models from here on."""
        return any(deviation.parts_ways for deviation in declared(exchange, self._deviations))

    def _intended(self, exchange: Exchange | CallExchange) -> bool:
        """Whether both answered alike, or as declared."""
        return not exchange.differences or bool(declared(exchange, self._deviations))


def _put(question: Question, triton: Side, other: Side, history: Sequence[str]) -> Iterator[Exchange | CallExchange]:
    in_its_words = question.triton if other.files.backend == TRITON else question.taxiway
    if isinstance(question.triton, Request) and isinstance(in_its_words, Request):
        answers = tidy(triton.clients.ask(question.triton)), tidy(other.clients.ask(in_its_words))
        found = tuple(differences(question.triton, *answers))
        yield Exchange(question.triton, *answers, found, tuple(history))
    elif isinstance(question.triton, Call) and isinstance(in_its_words, Call):
        replies = [
            _tidy_reply(side.clients.call(call), call)
            for side, call in ((triton, question.triton), (other, in_its_words))
        ]
        for exchange in exchanges(question.triton, *replies):
            yield dataclasses.replace(exchange, history=tuple(history))


# --- the index as a set


def _reason(text: str) -> str:
    return text if text in {"", "unloaded"} else "some other reason"


def tidy(answer: Answer) -> Answer:
    """An index sorted, its reasons reduced; any other answer as it is."""
    with contextlib.suppress(ValueError):
        listed = json.loads(answer.body)
        if isinstance(listed, list):
            entries = [entry | ({"reason": _reason(entry["reason"])} if "reason" in entry else {}) for entry in listed]
            body = json.dumps(sorted(entries, key=lambda entry: (entry["name"], entry.get("version", ""))))
            return dataclasses.replace(answer, body=body.encode())
    return answer


def _tidy_reply(reply: Reply, call: Call) -> Reply:
    if call.rpc != "RepositoryIndex" or reply.code != OK:
        return reply
    index: Any = service_pb2.RepositoryIndexResponse.FromString(reply.messages[0])
    index.models.sort(key=lambda model: (model.name, model.version))
    for model in index.models:
        model.reason = _reason(model.reason)
    return dataclasses.replace(reply, messages=(index.SerializeToString(),))
