"""ModelStreamInfer: many requests and their answers on one call.

Answers of models that answer once come in the order of the requests, as Triton's do. Those of decoupled models come as
they are given, between the others. What goes wrong with a request is told in its answer and the stream stays open,
unless the caller asks for a real status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

from taxiway.core.errors import TaxiwayError, Unavailable
from taxiway.core.requests import InferRequest
from taxiway.server.wire.grpc.asked import Answer
from taxiway.server.wire.grpc.calls import EOF, Context, details_of, header_of, tells_of_a_lost_client
from taxiway.server.wire.grpc.envelope import open_request
from taxiway.server.wire.grpc.infer import Edge, InferEndpoint, MessageCodec, named_in
from taxiway.server.wire.grpc.infer_answers import block
from taxiway.server.wire.grpc.outbox import Outbox
from taxiway.server.wire.grpc.protos import Message, message_class

METHOD = "ModelStreamInfer"
_STATUS_ON_ERROR = "triton_grpc_error"
"""Metadata: `true` turns the first error into the call's status."""
_LAST_MESSAGES_S = 1.0
"""How long a call that fails waits for messages that are on their way: a client that reads has them by then."""
_INFER_RESPONSE = 2 << 3 | 2

_Response = message_class("inference.ModelStreamInferResponse")


class Owed(NamedTuple):
    """The only answer to one request, and what it takes to word an error or to take the request back."""

    answer: Answer
    body: bytes
    codec: MessageCodec | None
    request: InferRequest | None


class StreamEndpoint:
    """Answers ModelStreamInfer.

    Args:
        max_waiting: requests of one stream that wait for answers; more are not read until some are answered.
        max_unread: bytes of answers of decoupled models that wait for the client of one stream.
    """

    def __init__(self, edge: Edge, infer: InferEndpoint, max_waiting: int, max_unread: int) -> None:
        self._edge = edge
        self._infer = infer
        self._calls = edge.calls
        self._max_waiting = max_waiting
        self._max_unread = max_unread
        self._open: set[InferStream] = set()

    async def stream(self, _: object, context: Context) -> None:
        """Answer one call."""
        stream = InferStream(context, self._edge, self._infer, self._max_waiting, self._max_unread)
        self._open.add(stream)
        self._calls.statistics.open_streams += 1
        try:
            await stream.run()
        except asyncio.CancelledError:
            self._calls.statistics.ended(METHOD, "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            if tells_of_a_lost_client(problem):
                self._calls.statistics.ended(METHOD, "CANCELLED")
                raise asyncio.CancelledError from None
            await self._calls.fail(context, METHOD, problem)
        finally:
            self._open.discard(stream)
            self._calls.statistics.open_streams -= 1
        self._calls.statistics.ended(METHOD, "OK")

    def shut(self) -> None:
        """Read no more requests: streams end as soon as what they owe is answered."""
        for stream in self._open:
            stream.shut()

    def give_up(self, error: TaxiwayError) -> None:
        """Answer by `error` whatever decoupled models have not answered to the end."""
        for stream in self._open:
            stream.give_up(error)


class Opened(NamedTuple):
    """A request that may have any number of answers: as it came, and what takes it back."""

    body: bytes
    take_back: Callable[[InferRequest], None]


class InferStream:
    """One call: a task reads requests, the call's own writes the answers that stand in line, an outbox the others."""

    def __init__(self, context: Context, edge: Edge, infer: InferEndpoint, max_waiting: int, max_unread: int) -> None:
        self._context = context
        self._writing = asyncio.Lock()
        """No two messages may be written at once."""
        self._outbox = Outbox(context, self._writing, edge.admission, max_unread, self._fail)
        self._opened: dict[InferRequest, Opened] = {}
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._failure: Exception | None = None
        self._ending: asyncio.Task[None] | None = None
        self._task = asyncio.current_task()
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
                message = self._worded(owed, await owed.answer)
                async with self._writing:
                    await self._context.write(message)
                self._room.release()
            await self._all_closed.wait()
            await self._outbox.written()
            if self._shut:
                raise Unavailable("the server is shutting down", hint="open the stream to another replica")
            await self._reader  # what it died of is what the stream dies of
        except asyncio.CancelledError:
            if self._failure is None or self._task is None or self._task.uncancel() > 0:
                raise  # the client has gone, or cancelled the call
            raise self._failure from None
        finally:
            await self._take_back(owed)

    # --- models with any number of answers ----------------------------------------------------------------

    def opened(self, request: InferRequest, body: bytes, take_back: Callable[[InferRequest], None]) -> None:
        """Answers to `request`, which came as `body`, are to be expected; its caller may go before they come."""
        self._opened[request] = Opened(body, take_back)
        self._all_closed.clear()

    def refused(self, request: InferRequest) -> None:
        """It was not taken after all: its refusal stands in line like any other."""
        self._opened.pop(request, None)
        if not self._opened:
            self._all_closed.set()

    def tell(self, content: bytes) -> None:
        """One answer: a ModelInferResponse."""
        self._outbox.put(block(_INFER_RESPONSE, content))

    def tell_error(self, request: InferRequest, problem: Exception, *, final: bool) -> None:
        """Why there is none, in the place of one."""
        if self._ends_on_error:
            self._fail(problem)
        elif (opened := self._opened.get(request)) is not None:
            self._outbox.put(self._worded_error(opened.body, problem, final=final))

    def tell_end(self, request: InferRequest) -> None:
        """That no answer follows, in a response of its own."""
        if (opened := self._opened.get(request)) is not None:
            response = _Response()
            _name(response, opened.body, final=True)
            self._outbox.put(bytes(response.SerializeToString()))

    def closed(self, request: InferRequest) -> None:
        """No answer follows."""
        if self._opened.pop(request, None) is not None:
            self._room.release()
            if not self._opened:
                self._all_closed.set()

    def give_up(self, error: TaxiwayError) -> None:
        """The server waits no longer for what is not answered to the end."""
        for request, opened in tuple(self._opened.items()):
            opened.take_back(request)
            self.tell_error(request, error, final=True)
            self.closed(request)

    def _fail(self, problem: Exception) -> None:
        """End the call by an error, whatever it waits for."""
        if self._failure is None:
            self._failure = problem
            self._outbox.shut()
            self._take_back_opened()
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        """What was answered goes first, if it can; and grpcio has no status follow a message that was torn."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._outbox.written(), _LAST_MESSAGES_S)
            await asyncio.wait_for(self._writing.acquire(), _LAST_MESSAGES_S)
        if self._task is not None:
            self._task.cancel()

    def _take_back_opened(self) -> None:
        opened, self._opened = self._opened, {}
        for request, one in opened.items():
            one.take_back(request)

    # --- models that answer once --------------------------------------------------------------------------

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
                if (owed := await self._take(body)) is not None:
                    self._owed.put_nowait(owed)
        finally:
            self._owed.put_nowait(None)

    async def _take(self, body: bytes) -> Owed | None:
        """What is owed in line; nothing, if the request's answers come as they are given."""
        answer = self._infer.expect()
        try:
            taken = self._infer.take_familiar(body, answer, self._context, self)
            codec, request = taken or await self._infer.take(body, answer, self._context, self)
            return Owed(answer, body, codec, request) if codec.answers_once else None
        except asyncio.CancelledError:
            answer.cancel()
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: the stream goes on
            if not answer.done():  # else the server gave up waiting for it
                answer.set_result(problem)
            return Owed(answer, body, None, None)

    def _worded(self, owed: Owed, told: bytes | Exception) -> bytes:
        if isinstance(told, bytes):
            return block(_INFER_RESPONSE, told)
        if self._ends_on_error:
            raise told
        if owed.request is not None:  # it was taken and came to nothing: Triton says of which model, too
            return self._worded_error(owed.body, told, final=True)
        response = _Response(error_message=details_of(self._calls.told(told, *named_in(owed.body))))
        with contextlib.suppress(TaxiwayError):  # what cannot be read has no id
            response.infer_response.id = open_request(owed.body)[0].id
        return bytes(response.SerializeToString())

    def _worded_error(self, body: bytes, problem: Exception, *, final: bool) -> bytes:
        """An error in the place of an answer to the request that came as `body`."""
        response = _Response(error_message=details_of(self._calls.told(problem, *named_in(body))))
        _name(response, body, final=final)
        return bytes(response.SerializeToString())

    async def _take_back(self, owed: Owed | None) -> None:
        """Leave nothing behind: what is still owed costs no execution, if it can be helped."""
        if self._ending is not None:
            self._ending.cancel()
        self._outbox.close()
        self._take_back_opened()
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


def _name(response: Message, body: bytes, *, final: bool) -> None:
    """Say in a response without outputs which request it is about, in the request's own words."""
    asked, _ = open_request(body)
    told = response.infer_response
    told.id, told.model_name, told.model_version = asked.id, asked.model_name, asked.model_version
    told.parameters["triton_final_response"].bool_param = final
