"""The servers under comparison, and clients that send requests and calls as they are."""

from __future__ import annotations

import contextlib
import functools
import http.client
import queue
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc
import pytest
from tests.oracle.compare import NO_ANSWER, Answer, Exchange, differences
from tests.oracle.replies import NO_REPLY, OK, SERVICE, STREAM, Call, CallExchange, Reply, exchanges
from tests.oracle.requests import Request
from tools.oracle_triton import TritonServer

ROOT: Final = Path(__file__).resolve().parents[2]
ANSWER_TIMEOUT_S: Final = 10.0
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.05

CHANNEL_OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0))
BROKEN_CONNECTION: Final = r"Socket closed|Connection reset|failed to connect|recvmsg|GOAWAY"
"""How grpcio words an UNAVAILABLE of its own making."""


class Client:
    """Sends requests as they are over one kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, request: Request) -> Answer:
        """The answer; a connection that turns out to be closed is replaced once."""
        fresh = self._connection is None
        try:
            return self._exchange(request)
        except (ConnectionError, http.client.HTTPException) as error:
            self.close()
            return Answer(NO_ANSWER, note=type(error).__name__) if fresh else self.ask(request)
        except TimeoutError:
            self.close()
            return Answer(NO_ANSWER, note="no answer in time")

    def _exchange(self, request: Request) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_TIMEOUT_S)
        connection = self._connection
        chunked = ("Transfer-Encoding", "chunked") in request.headers
        connection.putrequest(request.method, request.path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if not chunked and (request.body or request.method in {"POST", "PUT", "PATCH"}):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body, encode_chunked=chunked)
        with connection.getresponse() as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, response.read())

    def close(self) -> None:
        """Forget the connection; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Caller:
    """Makes gRPC calls of given bytes over one kept channel."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)

    def call(self, call: Call) -> Reply:
        """The reply; messages of a stream that came before an error are part of it."""
        path, messages = f"/{SERVICE}/{call.rpc}", list[bytes]()
        known: dict[str, Any] = {"timeout": ANSWER_TIMEOUT_S, "metadata": call.metadata}
        try:
            if call.rpc != STREAM:
                return Reply(OK, messages=(self._channel.unary_unary(path, bytes, bytes)(call.messages[0], **known),))
            stream = self._channel.stream_stream(path, bytes, bytes)
            if call.lockstep:
                messages.extend(_one_by_one(lambda requests: iter(stream(requests, **known)), call.messages))
            else:
                messages.extend(stream(iter(call.messages), **known))
        except grpc.RpcError as error:
            return _failed(error.code().name, error.details() or "", tuple(messages))
        return Reply(OK, messages=tuple(messages))

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


def _one_by_one(stream: Callable[[Iterator[bytes]], Iterator[bytes]], requests: Sequence[bytes]) -> Iterator[bytes]:
    """Answers of a stream in which each request waits for the answer to the one before."""
    ready: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    answers = stream(iter(ready.get, None))
    try:
        for request in requests:
            ready.put(request)
            yield next(answers)
    except StopIteration:
        return  # the server has ended the stream
    finally:
        ready.put(None)
    yield from answers


def _failed(code: str, details: str, messages: tuple[bytes, ...]) -> Reply:
    """The reply to a call that failed; one that the client library made up is none."""
    broken = code == "UNAVAILABLE" and re.search(BROKEN_CONNECTION, details)
    late = code == "DEADLINE_EXCEEDED" and details == "Deadline Exceeded"
    return Reply(NO_REPLY if broken or late else code, details, messages)


class Clients:
    """Both clients of one server."""

    def __init__(self, http_port: int, grpc_port: int) -> None:
        self._http = Client(http_port)
        self._grpc = Caller(grpc_port)
        self.ask = self._http.ask
        self.call = self._grpc.call

    def close(self) -> None:
        """Close what is open."""
        self._http.close()
        self._grpc.close()


class TaxiwayServer:
    """`taxiway serve --compat triton` for one repository, for as long as the `with` block lasts."""

    def __init__(self, repository: Path, log: Path, extra_args: Sequence[str] = ()) -> None:
        self._repository = repository
        self._log = log
        self._extra_args = extra_args
        self._process: subprocess.Popen[bytes] | None = None
        self.http_port = self.grpc_port = 0

    def __enter__(self) -> Self:
        self.http_port, self.grpc_port, metrics = _free_ports()
        command = [sys.executable, "-m", "taxiway", "serve", str(self._repository), "--compat", "triton"]
        command += ["--http.port", str(self.http_port), "--grpc.port", str(self.grpc_port)]
        command += ["--no-control.enabled", "--metrics.port", str(metrics), "--limits.drain-delay-s", "0"]
        command += ["--shared-memory.system", *self._extra_args]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT)
        try:
            self._wait_ready(self._process)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        client, deadline = Client(self.http_port), time.monotonic() + START_TIMEOUT_S
        while client.ask(Request("GET", "/v2/health/ready")).status != http.client.OK:
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = process.wait(timeout=POLL_S)
                said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                pytest.fail(f"taxiway ended with {ended} while it started:\n{said}", pytrace=False)
            if time.monotonic() > deadline:
                pytest.fail(f"taxiway was not ready within {START_TIMEOUT_S:g} s", pytrace=False)
        client.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RestartedTriton:
    """A real Triton that is started again when a request has killed it."""

    def __init__(self, start: Callable[..., TritonServer], *models: str) -> None:
        self._start = functools.partial(start, *(models or ("*",)))
        self._stack = contextlib.ExitStack()
        self.deaths = 0
        self._open()

    def _open(self) -> None:
        self._server = self._stack.enter_context(self._start())
        self._clients = Clients(self._server.http_port, self._server.grpc_port)

    def ask(self, request: Request) -> Answer:
        """The answer; a death is told in its note, and the next request finds another server."""
        answer = self._clients.ask(request)
        note = self._death(request) if answer.status == NO_ANSWER else ""
        return Answer(NO_ANSWER, note=note) if note else answer

    def call(self, call: Call) -> Reply:
        """The reply; a death is told in its details, and the next call finds another server."""
        reply = self._clients.call(call)
        note = self._death(call) if reply.code == NO_REPLY else ""
        return Reply(NO_REPLY, note) if note else reply

    def _death(self, of: object) -> str:
        """What the server died of, if it did; then another one is started."""
        ended = self._server.ended_within(1.0)
        if ended is None:
            return ""
        print(f"real Triton died ({ended}) of {of}", file=sys.stderr)
        self.deaths += 1
        self.close()
        self._open()
        return f"the server died: {ended}"

    def close(self) -> None:
        """Stop the server."""
        self._clients.close()
        self._stack.close()


class Pair:
    """The two servers under comparison."""

    def __init__(self, triton: RestartedTriton, other: Clients | RestartedTriton) -> None:
        self._triton = triton
        self._other = other

    @property
    def sides(self) -> tuple[RestartedTriton, Clients | RestartedTriton]:
        """Real Triton and the other, to ask one after the other."""
        return self._triton, self._other

    def exchange(self, request: Request) -> Exchange:
        """Ask both, one after the other, and compare."""
        triton, taxiway = self._triton.ask(request), self._other.ask(request)
        return Exchange(request, triton, taxiway, tuple(differences(request, triton, taxiway)))

    def call(self, call: Call) -> tuple[CallExchange, ...]:
        """Call both, one after the other, and compare; a stream is several exchanges."""
        return exchanges(call, self._triton.call(call), self._other.call(call))

    def with_mortal(self, start: Callable[..., TritonServer], model: str) -> Pair:
        """The same other, and a real Triton of its own with one model, which a request may break."""
        return Pair(RestartedTriton(start, model), self._other)

    def close(self) -> None:
        """Stop the real Triton."""
        self._triton.close()


def _free_ports() -> tuple[int, int, int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        http_port, grpc_port, metrics = (int(one.getsockname()[1]) for one in sockets)
        return http_port, grpc_port, metrics
