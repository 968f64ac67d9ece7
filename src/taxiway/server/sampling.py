"""Copies of some requests and their answers, for whoever watches a model: chosen by chance, bounded, counted.

A request that is not chosen costs one subtraction: how many are passed over before the next one is drawn at once, so
that each has the same chance. Whoever fetches what was kept says how many rows a second it wants, and the share follows
the traffic. What nobody fetches fills a bounded space, and is then counted and left.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import random as _random
from typing import Any, Final, Protocol
from weakref import WeakSet

import msgspec

from taxiway.config.model_spec import ModelSpec
from taxiway.core.errors import TaxiwayError
from taxiway.core.ports import BatchOutcome
from taxiway.core.requests import BatchResult, InferRequest, Responder, StreamResponder
from taxiway.core.samples import SampledRows, SampledTensor
from taxiway.server.channel import Verb
from taxiway.server.copying import Tensors, inputs_of, outputs_of, size_of

_NEVER: Final = 1 << 62
_LEAST_SHARE: Final = 1e-6
_OF_SPACE: Final = 0.5
"""How much of the space the next ones are expected to fill, so that a burst finds room."""
_BESIDE_BYTES: Final = 200
"""About what a sampled request takes beside its tensors."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One request with its answer."""

    id: str
    at_ns: int
    rows: int
    inputs: Tensors
    outputs: Tensors


class Lottery:
    """Chooses with one chance for all: how many are passed over before the next one is a geometric number.

    Args:
        chance: a number from [0, 1).

    Attributes:
        left: how many are passed over before the next one that is chosen; whoever passes one over subtracts it.
    """

    __slots__ = ("_chance", "_drawn", "left")

    def __init__(self, chance: Callable[[], float] = _random) -> None:
        self._chance = chance
        self._drawn = self.left = _NEVER

    @property
    def seen(self) -> int:
        """How many came since it was opened, chosen or not."""
        return self._drawn - self.left

    def open(self, share: float) -> None:
        """From now on choose about this share."""
        self._drawn = self.left = 0
        self._pass(share)

    def choose(self, share: float) -> None:
        """One was chosen, when `left` had fallen below 0."""
        self.left += 1
        self._drawn += 1
        self._pass(share)

    def close(self) -> None:
        """From now on choose none."""
        self._drawn = self.left = _NEVER

    def _pass(self, share: float) -> None:
        gap = 0 if share >= 1 else int(math.log(1.0 - self._chance()) / math.log1p(-share))
        self.left += gap
        self._drawn += gap


class Space:
    """What all samplers of a process may keep together.

    Attributes:
        left_bytes: of `max_bytes`.
    """

    __slots__ = ("left_bytes", "max_bytes")

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = self.left_bytes = max_bytes

    @property
    def roominess(self) -> float:
        """How many times what is kept now would have room, at most twice as much as it may be."""
        taken = self.max_bytes - self.left_bytes
        return _OF_SPACE * self.max_bytes / max(taken, 1)


class RowSampler:
    """Chooses requests of one version, and keeps copies of them until they are fetched.

    It chooses none before it is fetched from for the first time.

    Args:
        space: where copies are kept; what there is no room for is dropped.
    """

    def __init__(self, spec: ModelSpec, version: int, space: Space) -> None:
        self.spec = spec
        self.version = version
        self.lottery = Lottery()
        self._space = space
        self._kept: list[Sampled] = []
        self._bytes = 0
        self._dropped = 0
        self._share = 1.0
        self._began_ns = time.time_ns()

    def choose(self, request: InferRequest) -> Responder:
        """This request is the chosen one: copy it once it is answered. Its responder until now."""
        self.lottery.choose(self._share)
        responder = request.responder
        request.responder = _Copying(responder, self)
        return responder

    def keep(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Copy an answered request, if there is room."""
        if request.nbytes > self._space.left_bytes:
            self._dropped += 1
            return
        inputs = inputs_of(self.spec.inputs, request)
        outputs = outputs_of(self.spec.outputs, result, start, stop)
        nbytes = size_of(inputs) + size_of(outputs) + _BESIDE_BYTES
        if nbytes > self._space.left_bytes:
            self._dropped += 1
            return
        self._space.left_bytes -= nbytes
        self._bytes += nbytes
        self._kept.append(Sampled(request.id or "", time.time_ns(), request.rows, inputs, outputs))

    def fetch(self, rows_per_s: float, roominess: float) -> list[SampledRows]:
        """What was kept since the last fetch, by the shapes of the tensors.

        Args:
            rows_per_s: about how many to keep from now on.
            roominess: of the space, before anybody's were fetched.
        """
        now_ns = time.time_ns()
        seen, dropped, began_ns, kept = self.lottery.seen, self._dropped, self._began_ns, self._kept
        elapsed_s = (now_ns - began_ns) / 1e9
        rows = sum(one.rows for one in kept)
        self._share = share_after(rows, self._share, rows_per_s * elapsed_s, roominess)
        self._clear()
        self._began_ns = now_ns
        self.lottery.open(self._share)
        if not seen:
            return []
        groups = _by_shape(kept, batches=self.spec.max_batch_size > 0) or [[]]
        told = [self._told(group, began_ns, now_ns) for group in groups]
        return [msgspec.structs.replace(told[0], seen=seen, dropped=dropped), *told[1:]]

    def rest(self) -> None:
        """Choose none until the next fetch, and keep nothing."""
        self._clear()
        self.lottery.close()

    def _clear(self) -> None:
        self._space.left_bytes += self._bytes
        self._kept, self._bytes, self._dropped = [], 0, 0

    def _told(self, group: list[Sampled], began_ns: int, ended_ns: int) -> SampledRows:
        return SampledRows(
            model=self.spec.name,
            version=self.version,
            arm="",
            seen=0,
            dropped=0,
            began_ns=began_ns,
            ended_ns=ended_ns,
            ids=tuple(one.id for one in group),
            times_ns=tuple(one.at_ns for one in group),
            counts=tuple(one.rows for one in group),
            inputs=_together([one.inputs for one in group], batches=self.spec.max_batch_size > 0),
            outputs=_together([one.outputs for one in group], batches=self.spec.max_batch_size > 0),
        )


class Taker(Protocol):
    """What takes a version's requests in."""

    def submit(self, request: InferRequest) -> None:
        """Take a NEW request."""

    def cancel(self, request: InferRequest) -> bool:
        """Take a request back."""

    def close(self) -> None:
        """Take nothing new."""


class SampledFront:
    """Stands before a version's front, and has a sampler choose from what comes."""

    __slots__ = ("_lottery", "_run", "_sampler", "_take", "cancel", "close")

    def __init__(
        self, sampler: RowSampler, front: Taker, run_alone: Callable[[InferRequest], BatchOutcome | None] | None
    ) -> None:
        self._sampler = sampler
        self._lottery = sampler.lottery
        self._take = front.submit
        self._run = run_alone
        self.cancel = front.cancel
        self.close = front.close

    def submit(self, request: InferRequest) -> None:
        """Hand a NEW request on.

        Raises:
            TaxiwayError: as the front's own.
        """
        lottery = self._lottery
        lottery.left -= 1
        if lottery.left >= 0:
            self._take(request)
            return
        responder = self._sampler.choose(request)
        try:
            self._take(request)
        except TaxiwayError:
            request.responder = responder
            raise

    def run_alone(self, request: InferRequest) -> BatchOutcome | None:
        """As `Batcher.run_alone`; a request that is chosen goes the usual way."""
        lottery = self._lottery
        if lottery.left < 1 or self._run is None:
            return None
        outcome = self._run(request)
        if outcome is not None:
            lottery.left -= 1
        return outcome


class _Copying:
    """Stands before a chosen request's responder."""

    __slots__ = ("_sampler", "behind")

    def __init__(self, responder: Responder, sampler: RowSampler) -> None:
        self.behind = responder
        """The responder that it stands before."""
        self._sampler = sampler

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """Copy before the answer is told: what it is told from may be used again then."""
        self._sampler.keep(request, result, start, stop)
        self.behind.resolve(request, result, start, stop)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """There is no answer, and nothing to copy."""
        self.behind.reject(request, error)

    def part(self, request: InferRequest, answer: BatchResult | TaxiwayError) -> None:
        """Of several answers none is copied; the request is, at its end."""
        stream: StreamResponder = self.behind  # type: ignore[assignment]
        stream.part(request, answer)


class SamplingDesk:
    """Every sampler of one process. Samplers are made on the thread that loads models.

    Args:
        max_bytes: that all of them may keep together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._space = Space(max_bytes)
        self._samplers: WeakSet[RowSampler] = WeakSet()
        """Versions that were unloaded take theirs with them."""
        self._lock = threading.Lock()

    def sampler(self, spec: ModelSpec, version: int) -> RowSampler:
        """The sampler of a new version."""
        sampler = RowSampler(spec, version, self._space)
        with self._lock:
            self._samplers.add(sampler)
        return sampler

    def verbs(self) -> dict[str, Verb]:
        """What may be asked of this process."""
        return {"samples_fetch": self._fetch}

    async def _fetch(self, words: Mapping[str, Any]) -> list[Any]:
        """What was sampled of the models in `rows_per_s`; those that are not in it rest."""
        wanted: Mapping[str, float] = words["rows_per_s"]
        told: list[Any] = []
        roominess = self._space.roominess
        with self._lock:
            samplers = tuple(self._samplers)
        for sampler in samplers:
            rows_per_s = wanted.get(sampler.spec.name, wanted.get("*", 0.0))
            if rows_per_s > 0:
                told += [
                    msgspec.to_builtins(one, builtin_types=(bytes,)) for one in sampler.fetch(rows_per_s, roominess)
                ]
            else:
                sampler.rest()
        return told


def share_after(rows: int, share: float, wanted: float, roominess: float) -> float:
    """The share of requests to choose next, from how many rows the last one brought, and how many were wanted."""
    if not rows:
        return min(1.0, share * 2)
    return min(1.0, max(_LEAST_SHARE, share * min(wanted / rows, roominess)))


def _by_shape(kept: list[Sampled], *, batches: bool) -> list[list[Sampled]]:
    """Requests whose tensors can be laid one after the other."""
    groups: dict[Any, list[Sampled]] = {}
    for one in kept:
        shapes = [
            [(tensor["name"], *tensor["shape"][batches:]) for tensor in side] for side in (one.inputs, one.outputs)
        ]
        groups.setdefault(str(shapes), []).append(one)
    return list(groups.values())


def _together(requests: list[Tensors], *, batches: bool) -> dict[str, SampledTensor]:
    """The tensors of requests of the same shapes, one after the other."""
    told = {}
    for place, first in enumerate(requests[0] if requests else ()):
        parts = [tensors[place] for tensors in requests]
        rows = sum(part["shape"][0] for part in parts) if batches else len(parts)
        shape = (rows, *first["shape"][batches:])
        told[first["name"]] = SampledTensor(first["datatype"], shape, b"".join(part["data"] for part in parts))
    return told
