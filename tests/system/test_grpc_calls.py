"""Calls over gRPC that end otherwise than by an answer: cancelled, late, refused, cut off; and streams of them."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import trustme
from grpc import StatusCode
from tests.flow.serving import Server, serve
from tests.support import onnx_models, slow_models
from tests.support.engines import engine_of
from tests.support.grpc_calls import PATIENCE_S, Channel, connected, infer_request, output_of, refused
from tests.support.raw_http import wait_until

from taxiway.core.errors import PermissionDenied, Unauthenticated
from taxiway.core.requests import NEVER_NS
from taxiway.server.wire.complaints import Complaints
from taxiway.server.wire.grpc.calls import Calls, Guard
from taxiway.server.wire.grpc.front import GrpcFront
from taxiway.server.wire.grpc.infer import Edge
from taxiway.server.wire.grpc.services import Services
from taxiway.server.wire.status import STRICT
from taxiway.telemetry.logs import Log

LONG = 12_000
"""Steps of the slow model: most of a second."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    slow_models.sleeper(folder / "slow.onnx")
    onnx_models.doubler(folder / "double.onnx")
    slow_models.widener(folder / "wide.onnx", 100_000)
    return folder


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with serve(models, execution__mode="thread", batching__enabled=False, queue__max_requests=3) as running:
        yield running


@pytest.fixture
def channel(server: Server) -> Iterator[Channel]:
    with connected(server.grpc) as channel:
        yield channel


def _slow(steps: int, **fields: Any) -> Any:
    return infer_request("slow", ("x", np.asarray([[steps]], np.int64)), **fields)


def _double(value: float, **fields: Any) -> Any:
    return infer_request("double", ("x", np.asarray([[value, value]], np.float32)), **fields)


def _start(channel: Channel, message: Any, **options: Any) -> Any:
    return channel.method("ModelInfer").future(message, timeout=options.pop("timeout", PATIENCE_S), **options)


def _metric(server: Server, name: str) -> float:
    return sum(
        float(line.split()[-1])
        for line in server.scrape().splitlines()
        if line.startswith((f"{name} ", f'{name}{{model="slow"'))
    )


def _occupy(server: Server, channel: Channel, steps: int = LONG) -> Any:
    """A call whose request keeps the slow model busy."""
    running = _start(channel, _slow(steps))
    in_flight = "taxiway_http_requests_in_flight"
    wait_until(lambda: _metric(server, in_flight) >= 1 and _queued(server) == 0, "it runs")
    return running


def _queued(server: Server) -> float:
    return _metric(server, "taxiway_queue_requests")


# --- who goes away -------------------------------------------------------------------------------------


def test_d5_what_is_cancelled_while_queued_is_not_run(server: Server, channel: Channel) -> None:
    """Triton ran two of three calls that were cancelled in the queue."""
    before = _metric(server, "nv_inference_exec_count")
    running = _occupy(server, channel)
    gone = [_start(channel, _slow(1)) for _ in range(3)]
    wait_until(lambda: _queued(server) == 3, "three are queued")
    for call in gone:
        call.cancel()
    wait_until(lambda: _queued(server) == 0, "they are taken back")
    assert output_of(running.result(), 0, "<i8") == [[LONG]]
    assert _metric(server, "nv_inference_exec_count") - before == 1
    wait_until(lambda: 'taxiway_grpc_calls_total{method="ModelInfer",code="CANCELLED"} 3' in server.scrape(), "counted")


def test_d5_likewise_if_the_client_vanishes(server: Server, channel: Channel) -> None:
    before = _metric(server, "nv_inference_exec_count")
    running = _occupy(server, channel)
    with connected(server.grpc) as leaving:
        calls = [_start(leaving, _slow(1)) for _ in range(3)]
        wait_until(lambda: _queued(server) == 3, "three are queued")
    wait_until(lambda: _queued(server) == 0, "they are taken back")
    assert running.result().id == ""
    assert all(call.code() is StatusCode.CANCELLED for call in calls)
    assert _metric(server, "nv_inference_exec_count") - before == 1
    wait_until(lambda: _metric(server, "taxiway_http_buffered_bytes") == 0, "nothing is held")
    assert _metric(server, "taxiway_http_requests_in_flight") == 0


def test_a_call_past_its_deadline_is_not_run(server: Server, channel: Channel) -> None:
    before = _metric(server, "nv_inference_exec_count")
    running = _occupy(server, channel)
    with refused(StatusCode.DEADLINE_EXCEEDED):
        _start(channel, _slow(1), timeout=0.1).result()
    request = _slow(1)
    request.parameters["timeout"].int64_param = 100_000
    with refused(StatusCode.DEADLINE_EXCEEDED) as told:
        _start(channel, request).result()
    assert "timeout of 100 ms" in told.details
    assert not running.done()
    running.result()
    assert _metric(server, "nv_inference_exec_count") - before == 1


# --- who is refused ------------------------------------------------------------------------------------


def test_a_full_queue_says_when_to_come_back(server: Server, channel: Channel) -> None:
    running = _occupy(server, channel)
    waiting = [_start(channel, _slow(n)) for n in range(3)]
    wait_until(lambda: _queued(server) == 3, "the queue is full")
    with refused(StatusCode.RESOURCE_EXHAUSTED) as told:
        _start(channel, _slow(0)).result()
    assert told.trailers["taxiway-code"] == "overloaded"
    assert int(told.trailers["grpc-retry-pushback-ms"]) >= 1000
    for call in (running, *waiting):
        call.result()


def test_a_full_server_refuses_inference_and_answers_health(models: Path) -> None:
    flags: dict[str, Any] = {"execution__mode": "thread", "limits__max_requests": 1}
    with serve(models, **flags) as server, connected(server.grpc) as first, connected(server.grpc) as second:
        running = _start(first, _slow(LONG))
        wait_until(lambda: _metric(server, "taxiway_http_requests_in_flight") == 1, "it runs")
        with refused(StatusCode.RESOURCE_EXHAUSTED) as told:
            second.call("ModelInfer", _double(1))
        assert "limits.max_requests" in told.details
        assert second.health() == "SERVING"
        running.result()


def test_large_answers_count_until_they_are_taken(models: Path) -> None:
    """A client that does not read keeps its answers in the server's memory, where others must hear of it."""
    with serve(models) as server, connected(server.grpc) as channel:
        answer = channel.call("ModelInfer", infer_request("wide", ("x", np.asarray([[1.5]], np.float32))))
        assert output_of(answer) == [[1.5] * 100_000]
        wait_until(lambda: _metric(server, "taxiway_http_buffered_bytes") == 0, "it was taken")


# --- streams -------------------------------------------------------------------------------------------


class Stream:
    """A ModelStreamInfer that is fed and read a message at a time."""

    def __init__(self, channel: Channel, *metadata: tuple[str, str]) -> None:
        self._requests: queue.Queue[Any] = queue.Queue()
        method = channel.method("ModelStreamInfer")
        self.call = method(iter(self._requests.get, None), timeout=PATIENCE_S, metadata=metadata)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self._requests.put(message)

    def end(self) -> None:
        self._requests.put(None)

    def next(self) -> Any:
        return next(self.call)


def test_a_stream_answers_in_the_order_of_its_requests(channel: Channel) -> None:
    stream = Stream(channel)
    stream.send(_slow(2000, id="slow"), *[_double(n, id=str(n)) for n in range(3)])
    stream.end()
    answers = [answer.infer_response for answer in stream.call]
    assert [answer.id for answer in answers] == ["slow", *map(str, range(3))]
    assert output_of(answers[3]) == [[4, 4]]
    assert all(answer.parameters["triton_final_response"].bool_param for answer in answers)


def test_errors_stand_in_their_answers_and_the_stream_goes_on(channel: Channel) -> None:
    stream = Stream(channel)
    stream.send(infer_request("nobody", id="lost"), infer_request("double", id="empty"), _double(1, id="right"))
    lost, empty, right = stream.next(), stream.next(), stream.next()
    assert "unknown model: 'nobody'" in lost.error_message
    assert lost.infer_response.id == "lost"
    assert "missing required input" in empty.error_message
    assert (right.error_message, right.infer_response.id) == ("", "right")
    late = _slow(1, id="late")
    late.parameters["timeout"].int64_param = 1
    stream.send(_slow(LONG), late)
    stream.next()
    told = stream.next()
    assert "ran out" in told.error_message
    assert (told.infer_response.id, told.infer_response.model_name) == ("late", "slow")
    stream.end()
    assert list(stream.call) == []
    assert stream.call.code() is StatusCode.OK


def test_a_caller_may_want_a_status_for_the_first_error(channel: Channel) -> None:
    stream = Stream(channel, ("triton_grpc_error", "true"))
    stream.send(_double(1), infer_request("nobody"), _double(2))
    assert output_of(stream.next().infer_response) == [[2, 2]]
    with refused(StatusCode.NOT_FOUND) as told:
        stream.next()
    assert "unknown model: 'nobody'" in told.details
    stream.end()


def test_a_cancelled_stream_leaves_nothing_behind(server: Server, channel: Channel) -> None:
    before = _metric(server, "nv_inference_exec_count")
    stream = Stream(channel)
    stream.send(_slow(LONG))
    wait_until(lambda: _metric(server, "taxiway_http_requests_in_flight") == 1 and _queued(server) == 0, "it runs")
    stream.send(_slow(1), _slow(1), _slow(1))
    wait_until(lambda: _queued(server) == 3, "three are queued")
    stream.call.cancel()
    wait_until(lambda: _queued(server) == 0, "they are taken back")
    wait_until(lambda: _metric(server, "taxiway_http_requests_in_flight") == 0, "nothing is in flight")
    stream.end()
    assert _metric(server, "taxiway_http_buffered_bytes") == 0
    wait_until(lambda: _metric(server, "nv_inference_exec_count") - before == 1, "the one that ran came back")


def test_a_stream_is_not_read_faster_than_it_is_answered(models: Path) -> None:
    flags: dict[str, Any] = {"execution__mode": "thread", "batching__enabled": False, "limits__max_pipelined": 4}
    with serve(models, **flags) as server, connected(server.grpc) as channel:
        stream = Stream(channel)
        stream.send(_slow(LONG), *[_slow(n) for n in range(30)])
        wait_until(lambda: _queued(server) == 3, "as many as may wait do")
        assert _metric(server, "taxiway_http_requests_in_flight") == 4
        stream.end()
        assert len(list(stream.call)) == 31


# --- leaving -------------------------------------------------------------------------------------------


def test_what_was_taken_is_answered_when_the_server_leaves(models: Path) -> None:
    with serve(models, execution__mode="thread", batching__enabled=False) as server, connected(server.grpc) as channel:
        running = _occupy(server, channel)
        waiting = [_start(channel, _slow(n)) for n in range(3)]
        stream, idle = Stream(channel), Stream(channel)
        stream.send(_slow(7))
        idle.send(_double(1))
        idle.next()
        wait_until(lambda: _queued(server) == 4, "all wait")
        server.stop()
        wait_until(lambda: channel.health() == "NOT_SERVING", "it says that it leaves")
        with refused(StatusCode.UNAVAILABLE) as told:
            channel.call("ModelInfer", _double(1))
        assert "shutting down" in told.details
        assert output_of(running.result(), 0, "<i8") == [[LONG]]
        assert [output_of(call.result(), 0, "<i8") for call in waiting] == [[[0]], [[1]], [[2]]]
        assert output_of(stream.next().infer_response, 0, "<i8") == [[7]]
        for one in (stream, idle):
            with refused(StatusCode.UNAVAILABLE):
                one.next()
            one.end()


def test_what_cannot_be_answered_in_time_is_told_so(models: Path) -> None:
    flags: dict[str, Any] = {"execution__mode": "thread", "limits__drain_timeout_s": 0.2, "batching__enabled": False}
    with serve(models, **flags) as server, connected(server.grpc) as channel:
        executor = engine_of(server.plane._routing().find("slow", None)).executor
        running = _occupy(server, channel, steps=10 * LONG)  # it must outlast what a server that stops waits at least
        server.stop()
        with refused(StatusCode.UNAVAILABLE) as told:
            running.result()
        assert "shutting down" in told.details
        wait_until(lambda: executor.running_since_ns() == NEVER_NS, "the run that was given up is over")


# --- seams ---------------------------------------------------------------------------------------------


class Doorkeeper:
    """Lets the key `good` in, to everything but administration."""

    name = "good"

    def check(self, authorization: str | None, scope: str, model: str | None) -> Doorkeeper:
        if authorization != "Bearer good":
            raise Unauthenticated("no")
        if scope == "admin" or model == "slow":
            raise PermissionDenied("not for you")
        return self


def _front(server: Server, guard: Guard | None, credentials: grpc.ServerCredentials | None = None) -> str:
    """A second gRPC port of the same server."""
    plane = server.plane
    settings = plane._settings
    calls = Calls(STRICT, plane._grpc_statistics, Complaints(Log("taxiway.test"), lambda _: None))

    async def listen() -> str:
        edge = Edge(plane._routing, plane._admission, plane._wire_limits(), calls, plane._models.cold, guard)
        services = Services(edge, plane._administration, STRICT, settings.grpc, settings.limits)
        front = GrpcFront(settings.grpc, settings.limits, services)
        plane._grpc_fronts.append(front)
        host, port = await front.listen("127.0.0.1", 0, credentials=credentials)
        return f"{host}:{port}"

    listening: Future[str] = asyncio.run_coroutine_threadsafe(listen(), server.loop)
    return listening.result(PATIENCE_S)


def test_a_guard_decides_who_may_call(server: Server) -> None:
    with connected(_front(server, Doorkeeper())) as channel:
        assert channel.health() == "SERVING"
        assert channel.ask("ServerReady").ready
        with refused(StatusCode.UNAUTHENTICATED):
            channel.call("ModelInfer", _double(1))
        with refused(StatusCode.UNAUTHENTICATED):
            channel.ask("ModelMetadata", name="double")
        for header in (("authorization", "Bearer good"), ("x-api-key", "good")):
            assert output_of(channel.call("ModelInfer", _double(1), metadata=[header])) == [[2, 2]]
            with refused(StatusCode.PERMISSION_DENIED):
                channel.call("ModelInfer", _slow(1), metadata=[header])
        stream = Stream(channel, ("authorization", "Bearer good"))
        stream.send(_slow(1), _double(1))
        assert stream.next().error_message == "not for you"
        assert output_of(stream.next().infer_response) == [[2, 2]]
        stream.end()


def test_tls_is_one_argument(server: Server) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    address = _front(server, None, grpc.ssl_server_credentials([(issued.private_key_pem.bytes(), chain)]))
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    port = address.rpartition(":")[2]
    with grpc.secure_channel(f"localhost:{port}", trusted) as channel:
        call = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert call(b"", timeout=PATIENCE_S) == b"\x08\x01"
