"""ModelStreamInfer: many requests and their answers on one call.

Answers come in the order of the requests, as Triton's do for every model that answers once. What goes wrong with a
request is told in its answer and the stream stays open, unless the caller asks for a real status.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import NamedTuple

from taxiway.core.errors import TaxiwayError, Unavailable
from taxiway.core.requests import InferRequest
from taxiway.server.wire.grpc.calls import EOF, Context, details_of, header_of
from taxiway.server.wire.grpc.envelope import open_request
from taxiway.server.wire.grpc.infer import Answer, Edge, InferEndpoint, MessageCodec, named_in
from taxiway.server.wire.grpc.infer_answers import block
from taxiway.server.wire.grpc.protos import message_class

METHOD = "ModelStreamInfer"
_STATUS_ON_ERROR = "triton_grpc_error"
"""Metadata: `true` turns the first error into the call's status."""
_INFER_RESPONSE = 2 << 3 | 2

_Response = message_class("inference.ModelStreamInferResponse")


class Owed(NamedTuple):
    """One answer that a stream owes, and what it takes to word an error or to take the request back."""

    answer: Answer
    body: bytes
    codec: MessageCodec | None
    request: InferRequest | None


class StreamEndpoint:
    """Answers ModelStreamInfer.

    Args:
        max_waiting: requests of one stream that wait for answers; more are not read until some are answered.
    """

    def __init__(self, edge: Edge, infer: InferEndpoint, max_waiting: int) -> None:
        self._edge = edge
        self._infer = infer
        self._calls = edge.calls
        self._max_waiting = max_waiting
        self._open: set[InferStream] = set()

    async def stream(self, _: object, context: Context) -> None:
        """Answer one call."""
        stream = InferStream(context, self._edge, self._infer, self._max_waiting)
        self._open.add(stream)
        try:
            await stream.run()
        except asyncio.CancelledError:
            self._calls.statistics.ended(METHOD, "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            await self._calls.fail(context, METHOD, problem)
        finally:
            self._open.discard(stream)
        self._calls.statistics.ended(METHOD, "OK")

    def shut(self) -> None:
        """Read no more requests: streams end as soon as what they owe is answered."""
        for stream in self._open:
            stream.shut()


class InferStream:
    """One call: one task reads requests, the call's own writes answers."""

    def __init__(self, context: Context, edge: Edge, infer: InferEndpoint, max_waiting: int) -> None:
        self._context = context
        self._infer = infer
        self._calls = edge.calls
        self._room = asyncio.Semaphore(max_waiting)
        self._owed: asyncio.Queue[Owed | None] = asyncio.Queue()
        """In the order of the requests; None once there will be no more."""
        self._ends_on_error = header_of(context, _STATUS_ON_ERROR) == "true"
        self._reader: asyncio.Task[None] | None = None
        self._shut = False

    async def run(self) -> None:
        """Answer until the client has sent its last request and been told everything.

        Raises:
            TaxiwayError: the first error, if the caller wants it for a status; or the server closes.
        """
        self._reader = asyncio.get_running_loop().create_task(self._read())
        owed: Owed | None = None
        try:
            while (owed := await self._owed.get()) is not None:
                await self._context.write(self._worded(owed, await owed.answer))
                self._room.release()
            if self._shut:
                raise Unavailable("the server is shutting down", hint="open the stream to another replica")
            await self._reader  # what it died of is what the stream dies of
        finally:
            await self._take_back(owed)

    def shut(self) -> None:
        """Read no more requests; answer those that were read."""
        self._shut = True
        if self._reader is not None:
            self._reader.cancel()

    async def _read(self) -> None:
        try:
            while True:
                await self._room.acquire()
                if (body := await self._context.read()) is EOF:
                    return
                self._owed.put_nowait(await self._take(body))
        finally:
            self._owed.put_nowait(None)

    async def _take(self, body: bytes) -> Owed:
        answer = self._infer.expect()
        try:
            taken = self._infer.take_familiar(body, answer, self._context, on_stream=True)
            return Owed(answer, body, *(taken or await self._infer.take(body, answer, self._context, on_stream=True)))
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: the stream goes on
            answer.set_result(problem)
            return Owed(answer, body, None, None)

    def _worded(self, owed: Owed, told: bytes | Exception) -> bytes:
        if isinstance(told, bytes):
            return block(_INFER_RESPONSE, told)
        if self._ends_on_error:
            raise told
        named = named_in(owed.body)
        response = _Response(error_message=details_of(self._calls.told(told, *named)))
        with contextlib.suppress(TaxiwayError):  # what cannot be read has no id
            response.infer_response.id = open_request(owed.body)[0].id
        if owed.request is not None:  # it was taken and came to nothing: Triton says of which model, too
            response.infer_response.model_name, response.infer_response.model_version = named
            response.infer_response.parameters["triton_final_response"].bool_param = True
        return bytes(response.SerializeToString())

    async def _take_back(self, owed: Owed | None) -> None:
        """Leave nothing behind: what is still owed costs no execution, if it can be helped."""
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._reader
        while True:
            if owed is not None and owed.codec is not None and owed.request is not None:
                owed.codec.abandon(owed.request)
                owed.answer.cancel()
            if self._owed.empty():
                return
            owed = self._owed.get_nowait()
