"""Models of every kind and clients of every kind that leave at will, while models come and go and processes are killed.

Afterwards nothing is held for anybody, every answer was right, and nobody failed but who was inside what was killed.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from tests.support import zoo
from tests.support.raw_http import Process, Raw, request, serve_process, wait_until
from tests.support.soak import Client, Line, Soak, chance_of
from tritonclient.utils import InferenceServerException

KILLABLE = ("doubling", "asking", "counting", "tally")
KILLED = re.compile(rf"process of model '({'|'.join(KILLABLE)})' (ended|that had)")
"""What is told to who was inside a process that was killed."""
LOST = re.compile(r"must specify the START flag")
"""What is told to a sequence whose state is gone."""
LATE = re.compile(r"timeout of .* ran out|[Dd]eadline")
AWAY = re.compile("not found|no available versions|unavailable and takes no requests")
EXPECTED_ERRORS = {"model_process_died", "model_process_not_started"}
"""What the log may tell as an error: one may be killed while it starts, too."""
GAUGES = re.compile(
    r"taxiway_(http_requests_in_flight|http_buffered_bytes|http_open_connections|open_streams|queue_\w+|sequences"
    r"|cache_waiting_requests|cold_requests_waiting)({|$)|nv_inference_pending_request_count|\"down\""
)
"""What must be 0 when nobody asks anything."""


# --- over HTTP -------------------------------------------------------------------------------------------


def question(model: str, x: float, verb: str = "infer", *, name: str = "x", **parameters: Any) -> bytes:
    """A request in JSON, of one row."""
    tensor = {"name": name, "shape": [1, 1], "datatype": "FP32", "data": [x]}
    document = {"inputs": [tensor], "parameters": parameters}
    return request("POST", f"/v2/models/{model}/{verb}", json.dumps(document).encode(), "Accept: application/x-ndjson")


def ask_over_http(soak: Soak, chance: random.Random) -> Iterator[None]:
    """One after the other on a connection, several at once, with little time, or leaving before the answer."""
    with Line(soak) as line:
        while True:
            models = chance.choices(list(zoo.ONCE), k=chance.choice([1, 1, 1, 4]))
            asked = [(model, float(chance.randrange(1000))) for model in models]
            timeout: dict[str, Any] = {"timeout": chance.randrange(1, 20_000)} if chance.random() < 0.2 else {}
            line.now.send(b"".join(question(model, x, **timeout) for model, x in asked))
            if chance.random() < 0.2:
                line.leave()
            else:
                for model, x in asked:
                    tell(soak, model, x, line.now, LATE if timeout else KILLED)
            yield


def tell(soak: Soak, model: str, x: float, connection: Raw, allowed: re.Pattern[str]) -> None:
    """Read an answer of one that answers once."""
    reply = connection.reply()
    if reply.status == 200:
        soak.right(model, reply.output(), [zoo.ONCE[model](x)])
    else:
        soak.wrong(model, reply.body.decode(), KILLED, allowed)


def stream_over_http(soak: Soak, chance: random.Random) -> Iterator[None]:
    """Answers in parts, as lines and as events; to the end, or leaving at the first."""
    host, port = soak.server.address
    while True:
        model, x = chance.choice(list(zoo.PARTS)), float(chance.randrange(1, 12))
        if chance.random() < 0.4:
            with Raw(soak.server.address) as connection:
                connection.send(question(model, 60, "infer_stream"))
                if chance.random() < 0.7:
                    connection.until(b"\n")
        else:
            connected = http.client.HTTPConnection(host, port, timeout=30)
            if chance.random() < 0.5:
                body = question(model, x).partition(b"\r\n\r\n")[2]
                headers = {"Accept": "application/x-ndjson"}
                connected.request("POST", f"/v2/models/{model}/infer_stream", body, headers)
            else:
                connected.request("POST", f"/v2/models/{model}/generate_stream", json.dumps({"x": x}))
            with connected.getresponse() as response:
                read_parts(soak, model, x, response.read().decode())
            connected.close()
        yield


def read_parts(soak: Soak, model: str, x: float, text: str) -> None:
    """Check the answers of a stream."""
    documents = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    for error in (one["error"] for one in documents if "error" in one):
        soak.wrong(model, error, KILLED)
        return
    got = [one["y"] if "y" in one else one["outputs"][0]["data"][0] for one in documents if len(one) > 3 or "y" in one]
    soak.right(model, got, zoo.PARTS[model](x))


def go_through_sequences(soak: Soak, chance: random.Random) -> Iterator[None]:
    """Step by step, over HTTP; some are left unfinished, and some steps have nobody who waits for them."""
    with Line(soak) as line:
        while True:
            model = chance.choice(list(zoo.SUMS))
            name, _, more = zoo.SUMS[model]
            number, total, length = soak.sequence(), 0.0, chance.randrange(1, 6)
            for place in range(length):
                x, at = float(chance.randrange(12)), time.monotonic()
                total += x + more
                flags: dict[str, Any] = {"sequence_start": place == 0, "sequence_end": place == length - 1}
                line.now.send(question(model, x, name=name, sequence_id=number, **flags))
                if chance.random() < 0.05:
                    line.leave()
                    break
                reply = line.now.reply()
                if reply.status != 200:
                    may_be_lost = model == "tally" or time.monotonic() - at > zoo.IDLE_S
                    soak.wrong(model, reply.body.decode(), KILLED, LOST if may_be_lost else KILLED)
                    break
                soak.right(model, reply.output(), [total])
                yield
            yield


def ask_with_tritons_http_client(soak: Soak, chance: random.Random) -> Iterator[None]:
    """Tensors in binary."""
    host, port = soak.server.address
    with triton_http.InferenceServerClient(f"{host}:{port}") as client:
        while True:
            model, x = chance.choice(list(zoo.ONCE)), float(chance.randrange(1000))
            tensor = triton_http.InferInput("x", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[x]], np.float32))
            try:
                answer = client.infer(model, [tensor])
            except InferenceServerException as error:
                soak.wrong(model, str(error.message()), KILLED)
            else:
                soak.right(model, answer.as_numpy("y").reshape(-1).tolist(), [zoo.ONCE[model](x)])
            yield


# --- over gRPC -------------------------------------------------------------------------------------------


def tensors(x: float, name: str = "x") -> list[triton.InferInput]:
    """One row."""
    tensor = triton.InferInput(name, [1, 1], "FP32")
    tensor.set_data_from_numpy(np.array([[x]], np.float32))
    return [tensor]


def ask_over_grpc(soak: Soak, chance: random.Random) -> Iterator[None]:
    """One after the other; some with little time, some taken back."""
    with triton.InferenceServerClient(soak.server.grpc) as client:
        while True:
            model, x = chance.choice(list(zoo.ONCE)), float(chance.randrange(1000))
            little = chance.random() < 0.2
            if chance.random() < 0.2:
                ended = threading.Event()
                call = client.async_infer(model, tensors(x), lambda result, error, ended=ended: ended.set())
                call.cancel()
                assert ended.wait(30)
                yield
                continue
            try:
                timeout_s = chance.uniform(0.001, 0.02) if little else None
                answer = client.infer(model, tensors(x), client_timeout=timeout_s)
            except InferenceServerException as error:
                soak.wrong(model, str(error.message()), KILLED, LATE if little else KILLED)
            else:
                soak.right(model, answer.as_numpy("y").reshape(-1).tolist(), [zoo.ONCE[model](x)])
            yield


def stream_over_grpc(soak: Soak, chance: random.Random) -> Iterator[None]:
    """Models of both kinds on one call, and sequences; to the end, or taken back in the midst."""
    while True:
        with triton.InferenceServerClient(soak.server.grpc) as client:
            told: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
            client.start_stream(lambda result, error: told.put((result, error)))  # noqa: B023 - this turn's own
            asked = {str(number): put(soak, chance, client, str(number)) for number in range(chance.randrange(1, 6))}
            if chance.random() < 0.3:
                client.stop_stream(cancel_requests=True)
            else:
                read_stream(soak, asked, told)
                client.stop_stream()
        yield


Asked = tuple[str, list[float]]


def put(soak: Soak, chance: random.Random, client: Any, name: str) -> Asked:
    """Ask something on the stream; the model, and what it must answer."""
    kind = chance.choice(["once", "parts", "sum"])
    x = float(chance.randrange(1, 12))
    if kind == "once":
        model = chance.choice(list(zoo.ONCE))
        client.async_stream_infer(model, tensors(x), request_id=name)
        return model, [zoo.ONCE[model](x)]
    if kind == "parts":
        model = chance.choice(list(zoo.PARTS))
        client.async_stream_infer(model, tensors(x), request_id=name, enable_empty_final_response=True)
        return model, zoo.PARTS[model](x)
    model = chance.choice(list(zoo.SUMS))
    inputs = tensors(x, zoo.SUMS[model][0])
    place = {"sequence_id": soak.sequence(), "sequence_start": True, "sequence_end": chance.random() < 0.8}
    client.async_stream_infer(model, inputs, request_id=name, **place)
    return model, [x + zoo.SUMS[model][2]]


def read_stream(soak: Soak, asked: dict[str, Asked], told: queue.SimpleQueue[tuple[Any, Any]]) -> None:
    """Read until all is answered to its end."""
    got: dict[str, list[float]] = {name: [] for name in asked}
    while asked:
        result, error = told.get(timeout=30)
        if error is not None:  # which names its request nowhere but in its text
            soak.wrong("stream", str(error.message()), KILLED)
            return
        response = result.get_response()
        for output in response.outputs:
            got[response.id] += result.as_numpy(output.name).reshape(-1).tolist()
        if response.parameters["triton_final_response"].bool_param:
            model, expected = asked.pop(response.id)
            soak.right(model, got[response.id], expected)


# --- models that come and go -----------------------------------------------------------------------------


def load_and_unload(soak: Soak, chance: random.Random) -> Iterator[None]:
    """A guest that is asked meanwhile, and a model that is replaced while ensembles ask it."""
    visit = request("POST", f"/v2/repository/models/{zoo.GUEST}/load", b"{}")
    leave = request("POST", f"/v2/repository/models/{zoo.GUEST}/unload", b"{}")
    with Raw(soak.server.address) as connection:
        while True:
            assert connection.send(visit).reply().status == 200
            connection.send(question(zoo.GUEST, 1))
            assert connection.reply().output() == [101.0]
            yield
            config = json.dumps({"max_batch_size": chance.choice([4, 8])})
            body = json.dumps({"parameters": {"config": config}}).encode()
            assert connection.send(request("POST", "/v2/repository/models/add1/load", body)).reply().status == 200
            yield
            assert connection.send(leave).reply().status == 200
            yield


def ask_the_guest(soak: Soak, chance: random.Random) -> Iterator[None]:
    """It is there, or it is said not to be."""
    with Raw(soak.server.address) as connection:
        while True:
            x = float(chance.randrange(1000))
            reply = connection.send(question(zoo.GUEST, x)).reply()
            if reply.status == 200:
                soak.right(zoo.GUEST, reply.output(), [x + 100])
            else:
                soak.wrong(zoo.GUEST, reply.body.decode(), AWAY)
            yield


CLIENTS: list[Client] = [
    ask_over_http,
    ask_over_http,
    stream_over_http,
    stream_over_http,
    go_through_sequences,
    go_through_sequences,
    ask_with_tritons_http_client,
    ask_over_grpc,
    ask_over_grpc,
    stream_over_grpc,
    load_and_unload,
    ask_the_guest,
]


# --- the soak --------------------------------------------------------------------------------------------


def soak_for(server: Process, seconds: float, kills: int, seed: int) -> Soak:
    """Everything at once for so long, and so many processes killed meanwhile."""
    soak = Soak(server)
    threads = soak.run(CLIENTS, seed)
    chance = chance_of(seed)
    for _ in range(kills):
        soak.stop.wait(seconds / (kills + 1))
        os.kill(chance.choice(server.model_processes()), signal.SIGKILL)
    soak.stop.wait(seconds / (kills + 1))
    soak.stop.set()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for an answer that does not come"
    return soak


def left_over(server: Process) -> dict[str, float]:
    """The gauges that are not 0."""
    return {name: value for name, value in server.metrics().items() if GAUGES.search(name) and value}


def wait_for_quiet(server: Process, processes: int) -> None:
    """Until nobody holds anything, and those that were killed have successors."""
    try:
        wait_until(lambda: not left_over(server) and len(server.model_processes()) == processes, "all is quiet")
    except AssertionError:
        pytest.fail(f"held when nobody asks: {left_over(server)}")


def descriptors(server: Process) -> int:
    """Open files and sockets of the data plane."""
    return sum(1 for _ in Path(f"/proc/{server.workers()[0]}/fd").iterdir())


def errors_in(log: IO[str]) -> list[str]:
    """What it tells as errors and was not expected."""
    log.seek(0)
    told = [(line, json.loads(line)) for line in log]
    return [line for line, one in told if one["level"] == "error" and one["event"] not in EXPECTED_ERRORS]


@pytest.mark.parametrize(
    ("seconds", "kills", "rounds"),
    [
        pytest.param(4, 2, 1, id="short"),
        pytest.param(20, 4, 3, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(400)]),
    ],
)
def test_everything_at_once(tmp_path: Path, seconds: float, kills: int, rounds: int) -> None:
    zoo.write(tmp_path)
    names = [*zoo.ONCE, *zoo.PARTS, *zoo.SUMS]
    flags = {"models.control": "explicit", "cache.max_bytes": 1 << 20, "log.format": "json"}
    with (
        tempfile.TemporaryFile("w+") as log,
        serve_process(tmp_path, log, **flags, models__load=",".join(names)) as server,
    ):
        processes = len(server.model_processes())
        soak_for(server, 1, 0, seed=0)
        wait_for_quiet(server, processes)
        held = descriptors(server)
        sizes = [server.resident_bytes()]
        for number in range(1, rounds + 1):
            soak = soak_for(server, seconds, kills, number)
            assert not soak.problems, "\n".join(soak.problems[:5])
            assert set(names) <= soak.answered.keys(), "each was asked, and answered"
            assert soak.failed[KILLED.pattern] <= kills * len(CLIENTS) * 8, soak.failed
            wait_for_quiet(server, processes)
            sizes.append(server.resident_bytes())
        assert descriptors(server) <= held + 2
        assert rounds == 1 or sizes[-1] < 1.1 * sizes[1], sizes
        assert not errors_in(log)
