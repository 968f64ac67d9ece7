"""A registry with versions of one small model, a server that serves one of them under control, and its callers."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlsplit

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from tests.support.numbered_models import adder
from tests.support.onnx_models import save, tensor
from tests.support.raw_http import PATIENCE_S, Process, serve_process

from taxiway.core.errors import TaxiwayError, error_from_data
from taxiway.registry import ANY, Manifest, NewVersion, Registry

MODEL = "fraud"
ACTOR = "tests"

WriteModel = Callable[[Path, int], Path]


def good(path: Path, number: int) -> Path:
    """Adds the version's number to every row of one."""
    return adder(path, number)


def failing(path: Path, number: int, worst: float = 10.0) -> Path:
    """As `good`, but fails for whatever is `worst` or more: a table of so many rows is looked into."""
    table = numpy_helper.from_array(np.zeros(int(worst), np.float32), "table")
    amount = numpy_helper.from_array(np.asarray(number, np.float32), "amount")
    nodes = [
        helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["same"]),
        helper.make_node("Add", ["same", "amount"], ["y"]),
    ]
    return save(path, nodes, [tensor("x", ["N", 1])], [tensor("y", ["N", 1])], [table, amount])


@dataclass(frozen=True)
class Shop:
    """Where a registry and what belongs to it lie."""

    folder: Path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'registry.db'}"

    @property
    def journal(self) -> Path:
        return self.folder / "rollouts.db"

    def registry(self) -> Registry:
        return Registry.open(self.url, str(self.folder / "blobs"))

    def register(self, *models: WriteModel, name: str = MODEL) -> list[int]:
        """The next versions; their numbers."""
        with self.registry() as registry:
            known = {model.name for model in registry.models()}
            first = len(registry.versions(name)) + 1 if name in known else 1
            return [self._register(registry, name, write, number) for number, write in enumerate(models, first)]

    def _register(self, registry: Registry, name: str, write: WriteModel, number: int) -> int:
        file = write(self.folder / f"{name}-{number}.onnx", number)
        kept = registry.put_file(file)
        manifest = Manifest.of([kept.at("@/model.onnx")])
        new = NewVersion(name, manifest, "onnx", {"inputs": []}, {"source": file.as_uri()})
        return registry.register(new, actor=ACTOR, why="a test").number

    def point(self, alias: str, to: int, name: str = MODEL) -> None:
        """Move an alias, wherever it pointed."""

        with self.registry() as registry:
            registry.set_alias(name, alias, to, expect=ANY, actor=ACTOR, why="a test")

    def flags(self, **more: object) -> dict[str, object]:
        """For a server with this registry, and a control process of its own."""
        return {
            "registry.url": self.url,
            "registry.blobs": self.folder / "blobs",
            "registry.cache": self.folder / "cache",
            "control.enabled": True,
            "control.port": 0,
            "control.journal": f"sqlite:///{self.journal}",
            "control.look-every-s": 0.1,
            **more,
        }

    @contextlib.contextmanager
    def serve(
        self, *words: str, log: IO[str] | None = None, environment: Mapping[str, str] | None = None, **flags: object
    ) -> Iterator[Server]:
        """A real server of these references."""
        with serve_process(list(words) or [f"{MODEL}@stable"], log, **self.flags(**flags)) as process:
            yield Server(process)


def open_shop(folder: Path, *models: WriteModel) -> Shop:
    """Versions 1, 2, ... of these; `stable` is the first."""
    shop = Shop(folder)
    shop.register(*(models or (good, good)))
    shop.point("stable", 1)
    return shop


@dataclass
class Server:
    """A server that is up, and its control API."""

    process: Process
    key: str = ""

    def ask(self, method: str, path: str, words: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request to the control API."""
        parts = urlsplit(self.process.control)
        connection = http.client.HTTPConnection(str(parts.hostname), int(parts.port or 0), timeout=PATIENCE_S)
        said = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        if self.key:
            said["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request(method, path, None if words is None else json.dumps(words), said)
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def tell(self, path: str, **words: Any) -> Any:
        """What a POST answers.

        Raises:
            TaxiwayError: its refusal.
        """
        status, told = self.ask("POST", path, words)
        if status >= 400:
            raise _error(told)
        return told

    def see(self, path: str) -> Any:
        """What a GET answers.

        Raises:
            TaxiwayError: its refusal.
        """
        status, told = self.ask("GET", path)
        if status >= 400:
            raise _error(told)
        return told

    def start(self, service: str = MODEL, **plan: Any) -> str:
        """Begin a rollout of this plan; its id."""
        return str(self.tell("/v1/rollouts", service=service, plan=plan, reason="a test")["rollout"]["id"])

    def rollout(self, rollout_id: str) -> Any:
        """How it stands."""
        return self.see(f"/v1/rollouts/{rollout_id}")["rollout"]

    def wait_for(self, rollout_id: str, *phases: str, patience_s: float = PATIENCE_S) -> Any:
        """Until it is in one of these phases; how it stands then."""
        deadline = time.monotonic() + patience_s
        while (told := self.rollout(rollout_id))["phase"] not in phases:
            assert time.monotonic() < deadline, f"waited in vain for {phases}: {told}"
            time.sleep(0.02)
        return told

    def answer(self, value: float = 0.0, service: str = MODEL, **headers: str) -> tuple[int, float | None]:
        """Status and first output of one inference request."""
        caller = Caller(self.process.address, service)
        try:
            return caller.ask(value, headers)
        finally:
            caller.close()


def _error(told: Mapping[str, Any]) -> TaxiwayError:
    return error_from_data(
        {"code": told["code"], "message": told["error"], "hint": told["hint"], "facts": told["facts"]}
    )


class Caller:
    """Asks one thing after the other on one connection."""

    def __init__(self, address: tuple[str, int], service: str = MODEL) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=PATIENCE_S)
        self._path = f"/v2/models/{service}/infer"

    def ask(self, value: float, headers: Mapping[str, str] | None = None) -> tuple[int, float | None]:
        """Status and first output."""
        one = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}
        self._connection.request("POST", self._path, json.dumps({"inputs": [one]}), dict(headers or {}))
        answer = self._connection.getresponse()
        told = json.loads(answer.read())
        return answer.status, (told["outputs"][0]["data"][0] if answer.status == 200 else None)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@dataclass
class Crowd:
    """Callers that ask until the block ends, so many times a second in all; what they were answered is counted.

    Attributes:
        values: asked in turn.
        statuses: how often each came.
        outputs: of answers to `values[0]`, how often each came.
        moments: monotonic times and outputs of all answers.
    """

    address: tuple[str, int]
    values: Sequence[float] = (0.0,)
    per_s: float = 200.0
    callers: int = 2
    statuses: Counter[int] = field(default_factory=Counter)
    outputs: Counter[float] = field(default_factory=Counter)
    moments: list[tuple[float, float | None]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, index: int) -> None:
        caller = Caller(self.address)
        due = time.monotonic()
        for number in range(index, 1 << 40, self.callers):
            if self._over.wait(max(0.0, due - time.monotonic())):
                break
            due += self.callers / self.per_s
            value = self.values[number % len(self.values)]
            status, output = caller.ask(value)
            self.statuses[status] += 1
            if value == self.values[0] and output is not None:
                self.outputs[output] += 1
            self.moments.append((time.monotonic(), output))
        caller.close()
