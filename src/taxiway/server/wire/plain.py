"""What the front doors of plain JSON (generate.py, kserve_v1.py) share: from a request's body to an owed answer.

The words of a protocol are its own codec's; which requests are counted, refused and dropped is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.core.requests import BatchResult, InferRequest
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.server.admission import Admission
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Snapshot
from taxiway.server.signature import WireLimits
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.oip import InferCodec, InferEndpoint, chosen


class PlainAsk(NamedTuple):
    """What an answer needs to be worded: who waits, in which of the protocol's forms, and the caller's id."""

    exchange: Exchange
    form: str
    id: str | None


class Edge(NamedTuple):
    """What every codec of one front door is made with; `infer` owns the way to a version's queue."""

    routing: Callable[[], Snapshot]
    admission: Admission
    limits: WireLimits
    infer: InferEndpoint


class PlainCodec(ABC):
    """Reads requests for one version, submits them, and writes the answers. Subclasses have the words."""

    def __init__(self, served: ServedModel, infer: InferCodec) -> None:
        self._served = served
        self._statistics = served.statistics
        self._submit = infer.submit
        self._leave = infer.entrance.leave

    # --- the protocol's words -----------------------------------------------------------------------------

    @abstractmethod
    def read(self, exchange: Exchange) -> tuple[InferRequest, str]:
        """The request in the exchange's body, and the form its answer takes.

        Raises:
            InvalidArgument: what is wrong with it, and where.
        """

    @abstractmethod
    def write(self, ask: PlainAsk, result: BatchResult, start: int, stop: int) -> None:
        """Answer with rows [start, stop) of `result`.

        Raises:
            InvalidArgument: an output cannot be told in JSON.
        """

    def reword(self, error: TaxiwayError) -> TaxiwayError:
        """The protocol's own error for a request that could not be read."""
        return error

    def reply_failure(self, ask: PlainAsk, error: TaxiwayError) -> None:
        """Answer a request that was taken and came to nothing."""
        ask.exchange.reply_error(error)

    # --- the way of a request -----------------------------------------------------------------------------

    def take(self, exchange: Exchange) -> None:
        """Take in one request.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """
        try:
            request, form = self.read(exchange)
        except TaxiwayError as error:
            self._statistics.invalid(error.code)
            raise self.reword(error) from error
        request.ask = PlainAsk(exchange, form, request.id)
        if exchange.head.timeout_ns:
            request.deadline_ns = min(request.deadline_ns, exchange.arrived_ns + exchange.head.timeout_ns)
        self._submit(exchange, request)

    def resolve(self, request: InferRequest, result: BatchResult, start: int, stop: int) -> None:
        """The batcher's answer: write it."""
        ask = self._settle(request)
        try:
            self.write(ask, result, start, stop)
        except TaxiwayError as error:
            self.reply_failure(ask, error)
        except Exception as problem:  # noqa: BLE001 - the boundary: nobody above would answer this client
            ask.exchange.reply_bug(problem)

    def reject(self, request: InferRequest, error: TaxiwayError) -> None:
        """The batcher's refusal: tell it."""
        self.reply_failure(self._settle(request), error)

    def _settle(self, request: InferRequest) -> PlainAsk:
        ask = cast("PlainAsk", request.ask)
        self._leave()
        ask.exchange.on_abandoned = None
        return ask


class Taker(Protocol):
    """What takes in requests for one version: a PlainCodec, or several behind one."""

    def take(self, exchange: Exchange) -> None:
        """Take in one request.

        Raises:
            TaxiwayError: it is refused; nothing is owed to it but this error.
        """


class PlainEndpoint(ABC):
    """POST on a model: finds the version that the path names, and its codec of this protocol."""

    protocol: str
    """Where a version keeps the codec (`ServedModel.codecs`)."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def __call__(self, exchange: Exchange) -> None:
        """Take in one request."""
        self.codec(exchange).take(exchange)

    def codec(self, exchange: Exchange) -> Taker:
        """The codec of the version that the exchange's path names.

        Raises:
            ModelNotFound: none does.
        """
        served = chosen(self._edge.routing, exchange)
        codec = served.codecs.get(self.protocol)
        if codec is None:
            codec = self.make_codec(served, self._edge.infer.codec_of(served))
            served.codecs[self.protocol] = codec
        return cast("Taker", codec)

    @abstractmethod
    def make_codec(self, served: ServedModel, infer: InferCodec) -> Taker:
        """A codec for one version, which submits through `infer`."""


def flat_elements(
    result: BatchResult, index: int, start: int, stop: int, spec: TensorSpec, *, batches: bool
) -> Sequence[Any]:
    """The elements of an output's rows [start, stop), in C order: Python numbers, booleans, or bytes for BYTES.

    Raises:
        InvalidArgument: FP16 or BF16, which JSON does not carry here.
    """
    refuse_half_floats(spec)
    flat = result.printed.get(index)
    if flat is None:
        flat = result.printed[index] = result.arrays[index].reshape(-1).tolist()
    if batches and stop - start != result.rows:
        width = len(flat) // result.rows
        flat = flat[start * width : stop * width]
    return cast("Sequence[Any]", flat)


def refuse_half_floats(spec: TensorSpec) -> None:
    """Refuse an output that only binary tensors carry, as /infer does.

    Raises:
        InvalidArgument: FP16 or BF16.
    """
    if spec.datatype in (Datatype.FP16, Datatype.BF16):
        raise InvalidArgument(
            f"sending {spec.datatype.wire_name} data via JSON is not supported. "
            f"Please use the binary data format for output {spec.name}",
            hint='ask /v2/models/{model}/infer for it with "parameters": {"binary_data": true}',
        )
