"""Keeps a sample of one model's requests for whoever records a workload: bounded, and what does not fit is counted.

A recording belongs to somebody who fetches it: it ends when nobody has asked for a while, so that none is left running.
While none runs, the gates of its model are shut, and a request costs nothing (`tracing/gates.py`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from random import random as _random
from typing import Any, Final

import numpy as np

from taxiway.config.model_spec import ModelSpec
from taxiway.config.settings import RecordingSettings
from taxiway.core.errors import FailedPrecondition, NotFound, PermissionDenied
from taxiway.core.requests import InferRequest, InputTensor
from taxiway.core.tensors import Datatype
from taxiway.server.channel import Verb
from taxiway.server.fleet import Fleet
from taxiway.server.tracing.gates import TraceGates
from taxiway.telemetry.logs import Log

_log = Log("taxiway.recording")

LEASE_S: Final = 30.0
"""A recording that nobody asked about for so long ends."""
_MAX_FETCHED: Final = 2_000
_MAX_FETCHED_BYTES: Final = 8 << 20


class Recorder:
    """One recording in one process. `take` is called on the way of a request: it copies, or counts, and never waits.

    Args:
        share: of the requests that is kept, 0 to 1.
        most: ends after so many.
        with_inputs: whether the content of tensors is kept; else names, datatypes and shapes.
        settings: how much is held until it is fetched.
        draw: uniform between 0 and 1.
    """

    def __init__(
        self,
        share: float,
        most: int,
        *,
        with_inputs: bool,
        settings: RecordingSettings,
        draw: Callable[[], float] = _random,
    ) -> None:
        self._share = share
        self._left = most
        self._with_inputs = with_inputs
        self._settings = settings
        self._draw = draw
        self._held: deque[tuple[int, dict[str, Any]]] = deque()
        """Each with its bytes."""
        self._bytes = 0
        self.seen = 0
        self.dropped = 0

    def take(self, request: InferRequest, spec: ModelSpec) -> None:
        """Keep it, if it is chosen and fits."""
        self.seen += 1
        if self._left <= 0 or self._draw() >= self._share:
            return
        size = (request.nbytes if self._with_inputs else 0) + 200
        if len(self._held) >= self._settings.max_requests or self._bytes + size > self._settings.max_bytes:
            self.dropped += 1
            return
        self._left -= 1
        self._bytes += size
        self._held.append((size, {"arrived_ns": request.arrived_ns, "inputs": self._inputs(request, spec)}))

    def _inputs(self, request: InferRequest, spec: ModelSpec) -> list[dict[str, Any]]:
        told = []
        for declared, tensor in zip(spec.inputs, request.inputs, strict=False):
            if tensor is not None:
                one = {"name": declared.name, "datatype": declared.datatype.wire_name, "shape": list(tensor.shape)}
                if self._with_inputs:
                    one["raw"] = _copied(tensor, declared.datatype)
                told.append(one)
        return told

    def fetch(self) -> dict[str, Any]:
        """What was kept since, as much as one answer may hold; and what was counted so far."""
        requests: list[dict[str, Any]] = []
        size = 0
        while self._held and len(requests) < _MAX_FETCHED and size < _MAX_FETCHED_BYTES:
            nbytes, one = self._held.popleft()
            size += nbytes
            requests.append(one)
        self._bytes -= size
        return {"requests": requests, "seen": self.seen, "dropped": self.dropped, "held": len(self._held)}


class RecordingDesk:
    """Begins, fetches and ends recordings in every process of a server.

    Args:
        settings: what may be recorded, and how much of it is held.
        gates: of the versions in this process.
    """

    def __init__(self, settings: RecordingSettings, gates: TraceGates) -> None:
        self._settings = settings
        self._gates = gates
        self.fleet: Fleet | None = None
        """All processes of the server, once they can be spoken to."""
        self._running: dict[str, tuple[Recorder, asyncio.TimerHandle]] = {}

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of this process."""
        return {"record_begin": self._begin, "record_fetch": self._fetch, "record_end": self._end}

    async def begin(self, model: str, share: float, most: int, *, with_inputs: bool) -> None:
        """Record a share of a model's requests in every process, in place of a recording that runs.

        Raises:
            FailedPrecondition: recording is off.
            PermissionDenied: only shapes may be recorded.
        """
        if self._settings.mode == "off":
            raise FailedPrecondition(
                "requests may not be recorded: recording.mode is off",
                hint="`taxiway serve --recording.mode shapes`, or inputs if their content may be read",
            )
        if with_inputs and self._settings.mode != "inputs":
            raise PermissionDenied(
                f"the content of inputs may not be recorded: recording.mode is {self._settings.mode}",
                hint="leave --with-inputs out, or `taxiway serve --recording.mode inputs`",
                reason="recording",
            )
        words = {"model": model, "share": share, "most": most, "with_inputs": with_inputs}
        await self._ask("record_begin", words)

    async def fetch(self, model: str) -> dict[str, Any]:
        """What every process kept since.

        Raises:
            NotFound: no recording runs.
        """
        answers = [one for one in await self._ask("record_fetch", {"model": model}) if one is not None]
        if not answers:
            raise NotFound(f"no recording of model {model!r} runs", hint="`taxiway record` begins one", model=model)
        requests = [request for one in answers for request in one["requests"]]
        return {
            "requests": requests,
            **{name: sum(one[name] for one in answers) for name in ("seen", "dropped", "held")},
        }

    async def end(self, model: str) -> None:
        """Keep nothing more; what was not fetched is gone."""
        await self._ask("record_end", {"model": model})

    async def _ask(self, verb: str, words: Mapping[str, Any]) -> list[Any]:
        assert self.fleet is not None  # noqa: S101 - set while the server is assembled
        return await self.fleet.ask(verb, words)

    # --- in this process ----------------------------------------------------------------------------------

    async def _begin(self, words: Mapping[str, Any]) -> None:
        model = str(words["model"])
        self._forget(model)
        recorder = Recorder(words["share"], words["most"], with_inputs=words["with_inputs"], settings=self._settings)
        self._running[model] = recorder, self._lease(model)
        self._gates.tap(model, recorder.take)
        _log.info("recording_began", model=model, reason="with inputs" if words["with_inputs"] else "shapes only")

    async def _fetch(self, words: Mapping[str, Any]) -> dict[str, Any] | None:
        model = str(words["model"])
        if model not in self._running:
            return None
        recorder, lease = self._running[model]
        lease.cancel()
        self._running[model] = recorder, self._lease(model)
        return recorder.fetch()

    async def _end(self, words: Mapping[str, Any]) -> None:
        self._forget(str(words["model"]))

    def _lease(self, model: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(LEASE_S, self._forget, model)

    def _forget(self, model: str) -> None:
        if model in self._running:
            self._running.pop(model)[1].cancel()
            self._gates.tap(model, None)
            _log.info("recording_ended", model=model)


def _copied(tensor: InputTensor, datatype: Datatype) -> bytes | list[bytes]:
    """The content in memory of its own: the request's is used again once it is answered."""
    data = tensor.data
    if datatype is Datatype.BYTES:
        items = data.reshape(-1).tolist() if isinstance(data, np.ndarray) else data
        return [bytes(item) for item in items]
    return data.tobytes() if isinstance(data, np.ndarray) else bytes(data)
