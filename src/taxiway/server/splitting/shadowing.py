"""Copies of requests for an arm whose answers nobody gets, each paired with the answer that was given.

A copy never delays, changes or fails the request that it was made of: it owns its bytes, it is bounded in number, and
what becomes of it ends here.
"""

from __future__ import annotations

import time
from random import random as _random
from typing import Any, Final

from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest, InputTensor
from taxiway.core.traffic import Recorded, Shadow
from taxiway.server.copying import Tensors, inputs_of, outputs_of, size_of
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.records import Records, now_ns

MAX_COPIES: Final = 64
"""Pairs of which one answer is still owed; copies beyond them are left out, and counted as dropped."""


class Pair:
    """One request's two answers, told when both have come. It keeps the request, which it is known by."""

    __slots__ = ("given", "inputs", "other", "other_error", "over", "request")

    def __init__(self, request: InferRequest, inputs: Tensors) -> None:
        self.request = request
        self.inputs = inputs
        self.given: Tensors | None = None
        self.other: Tensors | None = None
        self.other_error = ""
        self.over = False
        """The copy has ended."""


class Shadowing:
    """Makes copies of one arm's requests for another arm.

    Args:
        shadow: how many, and for whom.
        arm, served: whose requests are copied.
        other: what runs the copies.
        segment: in which they are made.
        records: where pairs go.
        max_bytes: of a pair; larger ones are dropped.
    """

    def __init__(
        self,
        shadow: Shadow,
        arm: str,
        served: ServedModel,
        other: ServedModel,
        segment: int,
        records: Records,
        max_bytes: int,
    ) -> None:
        self._shadow = shadow
        self._arm = arm
        self._served = served
        self._other = other
        self._segment = segment
        self._records = records
        self._max_bytes = max_bytes
        self._pairs: dict[int, Pair] = {}
        self._next_ns = 0

    def copy(self, request: InferRequest) -> None:
        """Make a copy of some requests; before they are submitted."""
        if _random() >= self._shadow.share:  # noqa: S311 - a share, not a secret
            return
        now = time.monotonic_ns()
        if len(self._pairs) >= MAX_COPIES or now < self._next_ns or request.nbytes > self._max_bytes:
            self._records.dropped += 1
            return
        self._next_ns = now + round(1e9 / self._shadow.pairs_per_s)
        pair = Pair(request, inputs_of(self._served.spec.inputs, request))
        self._pairs[id(request)] = pair
        try:
            self._other.front.submit(self._twin(request, pair))
        except TaxiwayError as error:
            self.copy_ended(pair, error)

    def _twin(self, request: InferRequest, pair: Pair) -> InferRequest:
        inputs = [None if one is None else InputTensor(_own(one.data), one.shape) for one in request.inputs]
        twin = InferRequest(inputs, request.rows, _CopyResponder(self, pair), request.arrived_ns, request.nbytes)
        twin.bucket, twin.deadline_ns, twin.outputs = request.bucket, request.deadline_ns, request.outputs
        return twin

    def watched(self, request: InferRequest, answer: BatchResult | TaxiwayError | None, start: int, stop: int) -> None:
        """The original has ended: by rows [start, stop) of a result, by an error, or (None) because its client went."""
        pair = self._pairs.get(id(request))
        if pair is None:
            return
        if isinstance(answer, BatchResult):
            pair.given = outputs_of(self._served.spec.outputs, answer, start, stop)
            if pair.over:
                self._tell(pair)
        else:
            del self._pairs[id(request)]

    def copy_ended(self, pair: Pair, answer: BatchResult | TaxiwayError, start: int = 0, stop: int = 0) -> None:
        """The copy has ended."""
        pair.over = True
        if isinstance(answer, BatchResult):
            pair.other = outputs_of(self._other.spec.outputs, answer, start, stop)
        else:
            pair.other_error = answer.message[:500]
        if pair.given is not None:
            self._tell(pair)

    def _tell(self, pair: Pair) -> None:
        if self._pairs.pop(id(pair.request), None) is None or pair.given is None:
            return
        nbytes = size_of(pair.inputs) + size_of(pair.given) + size_of(pair.other or ())
        if nbytes > self._max_bytes:
            self._records.dropped += 1
            return
        record = Recorded(
            self._arm,
            self._segment,
            pair.request.id or "",
            "",
            now_ns(),
            1.0,
            pair.inputs,
            pair.given,
            self._shadow.arm,
            pair.other,
            pair.other_error,
        )
        self._records.add(record, nbytes)


class _CopyResponder:
    """Takes a copy's answer to its pair."""

    __slots__ = ("_pair", "_shadowing")

    def __init__(self, shadowing: Shadowing, pair: Pair) -> None:
        self._shadowing = shadowing
        self._pair = pair

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:  # noqa: ARG002
        """It was answered."""
        self._shadowing.copy_ended(self._pair, result, start, stop)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:  # noqa: ARG002 - the pair knows which
        """It was not."""
        self._shadowing.copy_ended(self._pair, error)


def can_copy(served: ServedModel, other: ServedModel) -> bool:
    """Whether requests for one version can be run by the other as they were read."""
    one, two = served.spec, other.spec
    same = all(
        [(tensor.name, tensor.datatype) for tensor in mine] == [(tensor.name, tensor.datatype) for tensor in theirs]
        for mine, theirs in ((one.inputs, two.inputs), (one.outputs, two.outputs))
    )
    return same and served.batches == other.batches and not (one.decoupled or two.decoupled)


def _own(data: Any) -> Any:  # noqa: ANN401 - any buffer, or a list for BYTES
    """Bytes that live as long as the copy does."""
    return list(data) if isinstance(data, list) else bytes(data)
