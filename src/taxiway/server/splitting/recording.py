"""Keeps ids, and some whole answers, of one arm's requests for whoever judges them."""

from __future__ import annotations

from random import random as _random

from taxiway.core.errors import TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.traffic import Recorded, Recording
from taxiway.server.copying import inputs_of, outputs_of, size_of
from taxiway.server.models.served import ServedModel
from taxiway.server.splitting.records import Records, now_ns

_ID_BYTES = 100
"""About what a record without tensors takes."""


class ArmRecorder:
    """Of one arm in one segment; `weight` is its share in it."""

    def __init__(
        self, recording: Recording, arm: str, served: ServedModel, segment: int, weight: float, records: Records
    ) -> None:
        self._recording = recording
        self._arm = arm
        self._served = served
        self._segment = segment
        self._weight = weight
        self._records = records

    def watched(self, request: InferRequest, answer: BatchResult | TaxiwayError | None, start: int, stop: int) -> None:
        """A request has ended."""
        if not isinstance(answer, BatchResult):
            return
        wanted = self._recording
        whole = bool(wanted.share) and _random() < wanted.share  # noqa: S311 - a share, not a secret
        if not (whole or (wanted.ids and request.id)):
            return
        inputs = inputs_of(self._served.spec.inputs, request) if whole else ()
        outputs = outputs_of(self._served.spec.outputs, answer, start, stop)
        nbytes = size_of(inputs) + size_of(outputs)
        if nbytes > wanted.max_bytes:
            self._records.dropped += 1
            return
        record = Recorded(self._arm, self._segment, request.id or "", "", now_ns(), self._weight, inputs, outputs)
        self._records.add(record, nbytes + _ID_BYTES)
