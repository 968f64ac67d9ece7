"""Keeps a sample of one model's requests for whoever records a workload: bounded, and what does not fit is counted.

A recording belongs to somebody who fetches it: there is one of a model at a time, and it ends when nobody has asked for
a while, so that none is left running. While none runs, the gates of its model are shut, and a request costs nothing
(`tracing/gates.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random as _random
from typing import Any, Final
from uuid import uuid4

import numpy as np

from taxiway.config.model_spec import ModelSpec
from taxiway.config.settings import RecordingSettings
from taxiway.core.errors import FailedPrecondition, NotFound, PermissionDenied, TaxiwayError
from taxiway.core.requests import InferRequest, InputTensor
from taxiway.server.channel import Verb
from taxiway.server.fleet import Fleet
from taxiway.server.tracing.gates import TraceGates
from taxiway.telemetry.logs import Log

_log = Log("taxiway.recording")

LEASE_S: Final = 30.0
"""A recording that nobody asked about for so long ends."""
MAX_REQUEST_BYTES: Final = 16 << 20
"""What is larger is dropped: no line of a workload could hold it."""
SHARE_BYTES: Final = 128 << 10
"""What one process tells at a time: the answers of 200 of them fit into one."""
_PLAIN_BYTES: Final = 100
"""What a request, and each of its tensors, takes without content."""


class Recorder:
    """One recording in one process. `take` is called on the way of a request: it copies, or counts, and never waits.

    Args:
        share: of the requests that is kept, 0 to 1.
        most: ends after so many.
        with_inputs: whether the content of tensors is kept; else names, datatypes and shapes.
        settings: how much is held until it is fetched.
        max_request_bytes: a larger request is dropped.
        draw: uniform between 0 and 1.
    """

    def __init__(
        self,
        share: float,
        most: int,
        *,
        with_inputs: bool,
        settings: RecordingSettings,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        draw: Callable[[], float] = _random,
    ) -> None:
        self._share = share
        self._left = most
        self._with_inputs = with_inputs
        self._settings = settings
        self._max_request_bytes = max_request_bytes
        self._draw = draw
        self._began = time.monotonic()
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
        size = _PLAIN_BYTES * (1 + len(request.inputs)) + (_content_bytes(request) if self._with_inputs else 0)
        is_full = len(self._held) >= self._settings.max_requests or self._bytes + size > self._settings.max_bytes
        if is_full or size > self._max_request_bytes:
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
                    one["raw"] = _copied(tensor)  # in one piece: many of them are heavy to carry between processes
                told.append(one)
        return told

    def fetch(self, most_bytes: int = SHARE_BYTES) -> dict[str, Any]:
        """What was kept since, up to so many bytes; and what was counted so far.

        Where the next request alone has more, there is none: it is `held` until more is asked for.
        """
        requests: list[dict[str, Any]] = []
        size = 0
        while self._held and size + self._held[0][0] <= most_bytes:
            nbytes, one = self._held.popleft()
            size += nbytes
            requests.append(one)
        self._bytes -= size
        return {"requests": requests, "seen": self.seen, "dropped": self.dropped, "held": self.held}

    @property
    def held(self) -> int:
        """Requests that were not fetched yet."""
        return len(self._held)

    def __str__(self) -> str:
        kept = "with inputs" if self._with_inputs else "shapes only"
        return f"{self._share:.3g} of its requests, {kept}, begun {time.monotonic() - self._began:.0f} s ago"


@dataclass(slots=True)
class _Recording:
    """One that was begun in this process.

    Attributes:
        id: the same in every process.
        lease: forgets it.
        takes: whether requests are still shown to it.
    """

    id: str
    recorder: Recorder
    lease: asyncio.TimerHandle
    takes: bool = True


class RecordingDesk:
    """Begins, fetches and ends recordings in every process of a server.

    Args:
        settings: what may be recorded, and how much of it is held.
        gates: of the versions in this process.
        max_body_bytes: the largest body that is taken in; what passes between processes is bounded by it.
    """

    def __init__(self, settings: RecordingSettings, gates: TraceGates, max_body_bytes: int) -> None:
        self._settings = settings
        self._gates = gates
        self._max_request_bytes = min(MAX_REQUEST_BYTES, max_body_bytes)
        self.fleet: Fleet | None = None
        """All processes of the server, once they can be spoken to."""
        self._running: dict[str, _Recording] = {}
        self._process = uuid4().hex
        """Of this process among the others."""

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of this process."""
        return {"record_begin": self._begin, "record_fetch": self._fetch, "record_end": self._end}

    async def begin(self, model: str, share: float, most: int, *, with_inputs: bool) -> None:
        """Record a share of a model's requests in every process.

        Raises:
            FailedPrecondition: recording is off, or somebody records this model already.
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
        mine = {"model": model, "recording": uuid4().hex}
        try:
            await self._ask("record_begin", {**mine, "share": share, "most": most, "with_inputs": with_inputs})
        except TaxiwayError:  # of one process: another may have begun, that was started after the one which runs
            await self._ask("record_end", mine)
            raise

    async def fetch(self, model: str) -> dict[str, Any]:
        """What the processes kept since, as much as one answer may hold.

        Raises:
            NotFound: no recording runs, and nothing of one is left.
        """
        told = await self._told("record_fetch", {"model": model})
        if not any(one["takes"] or one["requests"] or one["held"] for one in told):
            raise NotFound(f"no recording of model {model!r} runs", hint="`taxiway record` begins one", model=model)
        stuck = [one for one in told if one["held"] and not one["requests"]]
        if stuck:  # a request that is more than a share; one process at a time tells such
            chosen = max(stuck, key=lambda one: int(one["held"]))
            more = await self._told("record_fetch", {"model": model, "process": chosen["process"]})
            told = [one for one in told if one is not chosen] + (more or [chosen])
        requests = [request for one in told for request in one["requests"]]
        return {"requests": requests, **{name: sum(one[name] for one in told) for name in ("seen", "dropped", "held")}}

    async def end(self, model: str, *, keep: bool = False) -> None:
        """Take nothing more; what was not fetched is gone, unless it is to be kept until nobody fetches any more."""
        await self._ask("record_end", {"model": model, "keep": keep})

    async def _told(self, verb: str, words: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [one for one in await self._ask(verb, words) if one is not None]

    async def _ask(self, verb: str, words: Mapping[str, Any]) -> list[Any]:
        assert self.fleet is not None  # noqa: S101 - set while the server is assembled
        return await self.fleet.ask(verb, words)

    # --- in this process ----------------------------------------------------------------------------------

    async def _begin(self, words: Mapping[str, Any]) -> None:
        model = str(words["model"])
        old = self._running.get(model)
        if old is not None and (old.takes or old.recorder.held):
            raise FailedPrecondition(
                f"model {model!r} is being recorded already: {old.recorder}",
                hint=f"wait for its end; it ends by itself {LEASE_S:g} s after nobody fetched what it keeps",
                model=model,
            )
        self._forget(model)
        recorder = Recorder(
            words["share"],
            words["most"],
            with_inputs=words["with_inputs"],
            settings=self._settings,
            max_request_bytes=self._max_request_bytes,
        )
        self._running[model] = _Recording(str(words["recording"]), recorder, self._lease(model))
        self._gates.tap(model, recorder.take)
        _log.info("recording_began", model=model, reason="with inputs" if words["with_inputs"] else "shapes only")

    async def _fetch(self, words: Mapping[str, Any]) -> dict[str, Any] | None:
        model = str(words["model"])
        one = self._running.get(model)
        process = words.get("process")
        if one is None or process not in (None, self._process):
            return None
        self._renew(model, one)
        told = one.recorder.fetch(SHARE_BYTES if process is None else self._max_request_bytes)
        return {**told, "takes": one.takes, "process": self._process}

    async def _end(self, words: Mapping[str, Any]) -> None:
        model = str(words["model"])
        one = self._running.get(model)
        if one is None or words.get("recording") not in (None, one.id):
            return
        if not words.get("keep"):
            self._forget(model)
            return
        self._renew(model, one)
        self._take_no_more(model, one)

    def _lease(self, model: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(LEASE_S, self._forget, model)

    def _renew(self, model: str, one: _Recording) -> None:
        one.lease.cancel()
        one.lease = self._lease(model)

    def _take_no_more(self, model: str, one: _Recording) -> None:
        if one.takes:
            one.takes = False
            self._gates.tap(model, None)
            _log.info("recording_ended", model=model)

    def _forget(self, model: str) -> None:
        one = self._running.pop(model, None)
        if one is not None:
            one.lease.cancel()
            self._take_no_more(model, one)


def _content_bytes(request: InferRequest) -> int:
    """Bytes of its tensors, wherever they lie: those in shared memory are not the request's own."""
    return sum(_size_of(tensor.data) for tensor in request.inputs if tensor is not None)


def _size_of(data: Any) -> int:  # noqa: ANN401 - a buffer, or bytes objects
    items = _items(data)
    return memoryview(data).nbytes if items is None else sum(map(len, items)) + 4 * len(items)


def _copied(tensor: InputTensor) -> bytes:
    """The content in memory of its own, as binary tensors have it: the request's is used again once it is answered."""
    items = _items(tensor.data)
    if items is not None:
        return b"".join([part for item in items for part in (len(item).to_bytes(4, "little"), item)])
    return tensor.data.tobytes() if isinstance(tensor.data, np.ndarray) else bytes(tensor.data)


def _items(data: Any) -> list[bytes] | None:  # noqa: ANN401 - as above
    """The elements of BYTES; None of another datatype, whose content is one buffer."""
    if isinstance(data, np.ndarray):
        return [bytes(item) for item in data.reshape(-1)] if data.dtype == object else None
    return data if isinstance(data, list) else None
