"""Answers that come one by one over HTTP: /infer_stream, /generate_stream, and decoupled models behind unary calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flow.telling import ERROR, FINAL, FLOOD, PAUSE, REJECT, Telling, serve_teller
from tests.support.certificates import Authority, SecureRaw
from tests.support.otlp import collect
from tests.support.raw_http import Raw, request, wait_until

NDJSON = "Accept: application/x-ndjson"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    with serve_teller(tmp_path_factory.mktemp("strict"), limits__max_stream_buffer_bytes=4 << 20) as telling:
        yield telling


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telling]:
    with serve_teller(tmp_path_factory.mktemp("triton"), compat="triton") as telling:
        yield telling


def asked(script: list[int], **members: Any) -> bytes:
    one = {"name": "x", "shape": [len(script)], "datatype": "INT64", "data": script}
    return json.dumps({**members, "inputs": [one]}).encode()


def stream(script: list[int], *headers: str, verb: str = "infer_stream", version: str = "1.1", **members: Any) -> bytes:
    body = json.dumps({**members, "x": script}).encode() if verb.startswith("generate") else asked(script, **members)
    return request("POST", f"/v2/models/teller/{verb}", body, *headers, version=version)


class Stream:
    """One streamed answer, read as it comes."""

    def __init__(self, connection: Raw) -> None:
        self._connection = connection
        self._text = b""
        head = connection.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}

    def chunk(self) -> bytes:
        """The next chunk; empty at the end."""
        size = int(self._connection.until(b"\r\n"), 16)
        data = self._connection.take(size)
        assert self._connection.take(2) == b"\r\n"
        return data

    def event(self) -> Any:
        """The next event, or line."""
        data = self.chunk()
        if self.headers["content-type"].startswith("text/event-stream"):
            assert data.startswith(b"data: "), data
            assert data.endswith(b"\n\n"), data
            data = data.removeprefix(b"data: ")
        return json.loads(data)

    def rest(self) -> list[bytes]:
        """All chunks to the end."""
        chunks = []
        while chunk := self.chunk():
            chunks.append(chunk)
        return chunks


def begun(telling: Telling, raw: bytes) -> tuple[Raw, Stream]:
    connection = Raw(telling.server.address).send(raw)
    return connection, Stream(connection)


def numbers(events: list[Any]) -> list[Any]:
    return [event["outputs"][0]["data"] for event in events]


# --- infer_stream --------------------------------------------------------------------------------------------


def test_each_answer_is_an_event(strict: Telling) -> None:
    connection, told = begun(strict, stream([2, 3, PAUSE, 4], id="a"))
    with connection:
        assert (told.status, told.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert told.headers["transfer-encoding"] == "chunked"
        first, second = told.event(), told.event()
        strict.executor.go_on()
        third = told.event()
        assert told.rest() == []
    y, z = {"name": "y", "datatype": "INT64", "shape": [1]}, {"name": "z", "datatype": "INT64", "shape": [1]}
    named = {"id": "a", "model_name": "teller", "model_version": "1", "parameters": {"triton_final_response": False}}
    assert first == {**named, "outputs": [{**y, "data": [2]}, {**z, "data": [2]}]}
    assert second == {**named, "outputs": [{**y, "data": [3]}]}
    assert third == {**named, "outputs": [{**y, "data": [4]}, {**z, "data": [4]}]}


def test_the_last_answer_says_so(strict: Telling) -> None:
    connection, told = begun(strict, stream([2, FINAL]))
    with connection:
        finals = [told.event()["parameters"]["triton_final_response"] for _ in range(2)]
        assert (finals, told.rest()) == ([False, True], [])


def test_lines_for_who_accepts_them(strict: Telling) -> None:
    connection, told = begun(strict, stream([3, 5], NDJSON))
    with connection:
        assert told.headers["content-type"] == "application/x-ndjson"
        chunks = told.rest()
    assert all(chunk.endswith(b"}\n") and chunk.count(b"\n") == 1 for chunk in chunks)
    assert numbers([json.loads(chunk) for chunk in chunks]) == [[3], [5]]


@pytest.mark.parametrize("accept", ["Accept: text/event-stream", NDJSON])
def test_a_model_that_answers_once_has_one_event(strict: Telling, accept: str) -> None:
    body = json.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}).encode()
    with Raw(strict.server.address) as connection:
        reply = connection.send(request("POST", "/v2/models/doubler/infer_stream", body, accept)).reply()
    text = reply.body.decode().removeprefix("data: ")
    assert reply.status == 200
    assert json.loads(text)["parameters"] == {"triton_final_response": True}
    assert json.loads(text)["outputs"][0]["data"] == [2.0, 4.0]


def test_a_request_in_binary_is_taken_and_answered_in_json(strict: Telling) -> None:
    parameters = {"binary_data_size": 16}
    head = {"inputs": [{"name": "x", "shape": [2], "datatype": "INT64", "parameters": parameters}]}
    text = json.dumps({**head, "parameters": {"binary_data_output": True}}).encode()
    body = text + (5).to_bytes(8, "little") + (6).to_bytes(8, "little")
    length = f"Inference-Header-Content-Length: {len(text)}"
    connection, told = begun(strict, request("POST", "/v2/models/teller/versions/1/infer_stream", body, length))
    with connection:
        assert numbers([told.event(), told.event()]) == [[5], [6]]


def test_outputs_are_chosen_as_for_infer(strict: Telling) -> None:
    connection, told = begun(strict, stream([2, 3], outputs=[{"name": "z", "parameters": {"classification": 1}}]))
    with connection:
        assert [event["outputs"] for event in (told.event(), told.event())] == [
            [{"name": "z", "datatype": "BYTES", "shape": [1], "data": ["2:0"]}],
            [],
        ]


def test_no_answer_at_all_is_an_empty_stream(strict: Telling) -> None:
    with Raw(strict.server.address) as connection:
        reply = connection.send(stream([])).reply()
        assert (reply.status, reply.body) == (200, b"")
        assert reply.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("script", [[ERROR], [REJECT]])
def test_an_error_before_all_answers_has_a_status(strict: Telling, script: list[int]) -> None:
    with Raw(strict.server.address) as connection:
        reply = connection.send(stream(script)).reply()
        assert (reply.status, reply.json()["code"]) == (500, "model-failed")


@pytest.mark.parametrize("verb", ["infer_stream", "generate_stream"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([3, ERROR, 5], [3, "not this one", 5]),
        ([3, REJECT], [3, "the model is done for"]),
        ([ERROR, 3], ["not this one", 3]),
        ([ERROR, FINAL], ["not this one", 7]),
        ([ERROR, REJECT], ["not this one", "the model is done for"]),
    ],
)
def test_an_error_among_answers_is_an_event(strict: Telling, verb: str, script: list[int], expected: list[Any]) -> None:
    connection, told = begun(strict, stream(script, verb=verb))
    with connection:
        assert told.status == 200
        events = [json.loads(chunk.removeprefix(b"data: ")) for chunk in told.rest()]
    read = [event.get("error") or event.get("y") or event["outputs"][0]["data"][0] for event in events]
    assert read == expected


def test_what_cannot_be_read_is_refused_as_ever(strict: Telling) -> None:
    with Raw(strict.server.address) as connection:
        assert connection.send(request("POST", "/v2/models/teller/infer_stream", b"{}")).reply().status == 400
        wrong = request("POST", "/v2/models/teller/generate_stream", b'{"x": "a"}')
        assert connection.send(wrong).reply().status == 422
        assert connection.send(request("POST", "/v2/models/none/infer_stream", asked([1]))).reply().status == 404


def test_the_deadline_ends_a_stream(strict: Telling) -> None:
    connection, told = begun(strict, stream([3, PAUSE], "Request-Timeout: 0.05"))
    with connection:
        assert numbers([told.event()]) == [[3]]
        assert told.event()["code"] == "deadline-exceeded"
        assert told.rest() == []
    strict.executor.go_on()


# --- the connection ------------------------------------------------------------------------------------------


def test_a_connection_goes_on_after_a_stream_and_others_wait_behind_it(strict: Telling) -> None:
    live = request("GET", "/v2/health/live")
    connection, told = begun(strict, stream([3, PAUSE, 5]) + live + stream([4, 6]) + live)
    with connection:
        assert numbers([told.event()]) == [[3]]
        assert connection.silent()
        strict.executor.go_on()
        assert (numbers([told.event()]), told.rest()) == ([[5]], [])
        assert connection.reply().json() == {"live": True}
        behind = Stream(connection)
        assert (numbers([behind.event(), behind.event()]), behind.rest()) == ([[4], [6]], [])
        assert connection.reply().json() == {"live": True}


def test_a_stream_that_waits_its_turn_is_sent_whole(strict: Telling) -> None:
    with Raw(strict.server.address) as connection:
        connection.send(stream([PAUSE, 1]) + stream([3, 5]) + stream([7, PAUSE, 9]))
        wait_until(lambda: strict.executor.pausing() == 2, "both pause")
        assert connection.silent()
        strict.executor.go_on()
        for expected in ([[1]], [[3], [5]], [[7], [9]]):
            told = Stream(connection)
            assert numbers([json.loads(chunk.removeprefix(b"data: ")) for chunk in told.rest()]) == expected


def test_an_old_client_reads_until_the_connection_closes(strict: Telling) -> None:
    with Raw(strict.server.address) as connection:
        connection.send(stream([3, 5], NDJSON, "Connection: keep-alive", version="1.0"))
        told = Stream(connection)
        assert "transfer-encoding" not in told.headers
        assert told.headers["connection"] == "close"
        lines = connection.until_closed().splitlines()
    assert numbers([json.loads(line) for line in lines]) == [[3], [5]]


def test_streams_are_not_compressed(strict: Telling) -> None:
    connection, told = begun(strict, stream([3, 5], "Accept-Encoding: gzip"))
    with connection:
        assert "content-encoding" not in told.headers
        assert numbers([told.event(), told.event()]) == [[3], [5]]


def test_a_client_that_goes_takes_its_request_with_it(strict: Telling) -> None:
    connection, told = begun(strict, stream([3, PAUSE, 5], id="gone"))
    with connection:
        told.event()
        assert strict.series("taxiway_open_streams", protocol="http") == 1
    wait_until(lambda: "gone" in strict.executor.abandoned, "the request is given up")
    strict.executor.go_on()
    wait_until(lambda: strict.executor.running == 0, "nothing runs")
    assert strict.series("taxiway_open_streams", protocol="http") == 0
    assert strict.series("taxiway_http_requests_in_flight") == 0


def test_a_slow_reader_is_cut_and_nobody_else(strict: Telling) -> None:
    other, told = begun(strict, stream([3, PAUSE, 5]))
    slow = Raw(strict.server.address, receive_buffer=4096)
    with other, slow:
        slow.send(stream([FLOOD], id="slow"))
        wait_until(lambda: "slow" in strict.executor.abandoned, "the request is given up")
        assert numbers([told.event()]) == [[3]]
        strict.executor.go_on()
        assert (numbers([told.event()]), told.rest()) == ([[5]], [])
        wait_until(lambda: strict.executor.running == 0, "nothing runs")
        wait_until(lambda: strict.series("taxiway_http_buffered_bytes") == 0, "nothing is held")
        with pytest.raises((ConnectionResetError, AssertionError)):
            Stream(slow).rest()


def test_a_reader_that_pauses_loses_nothing(strict: Telling) -> None:
    count = 20_000
    with Raw(strict.server.address, receive_buffer=1 << 17) as connection:
        before = strict.series("nv_inference_request_success", model="teller")
        connection.send(stream([number % 1000 for number in range(count)], NDJSON))
        wait_until(lambda: strict.series("nv_inference_request_success", model="teller") > before, "all are given")
        connection.until(b"\r\n\r\n")
        lines = connection.until(b"\r\n0\r\n\r\n").split(b"\r\n")
    assert all(int(size, 16) == len(chunk) for size, chunk in zip(lines[::2], lines[1::2], strict=True))
    events = [json.loads(chunk) for chunk in lines[1::2]]
    assert numbers(events) == [[number % 1000] for number in range(count)]
    wait_until(lambda: strict.series("taxiway_http_buffered_bytes") == 0, "nothing is held")


# --- calls that carry one answer -----------------------------------------------------------------------------


@pytest.mark.parametrize("script", [[3], [FINAL]])
def test_the_only_answer_is_the_answer(strict: Telling, script: list[int]) -> None:
    number = 7 if script == [FINAL] else 3
    with Raw(strict.server.address) as connection:
        told = connection.send(stream(script, verb="infer")).reply()
        assert (told.status, told.output()) == (200, [number])
        assert "parameters" not in told.json()
        told = connection.send(stream(script, verb="generate")).reply()
        assert (told.status, told.json()["y"]) == (200, number)
        row = json.dumps({"inputs": script}).encode()
        told = connection.send(request("POST", "/v1/models/teller:predict", row)).reply()
        outputs = told.json()["outputs"]
        assert (told.status, outputs["y"] if isinstance(outputs, dict) else outputs) == (200, [number])


@pytest.mark.parametrize(("script", "gave"), [([], "no answer"), ([2, 3], "several"), ([2, FINAL], "several")])
@pytest.mark.parametrize("verb", ["infer", "generate"])
def test_any_other_number_of_answers_names_the_call_for_it(
    strict: Telling, script: list[int], gave: str, verb: str
) -> None:
    with Raw(strict.server.address) as connection:
        told = connection.send(stream(script, verb=verb)).reply()
    assert (told.status, told.json()["code"]) == (501, "not-one-answer")
    assert gave in told.json()["error"]
    assert "/infer_stream" in told.json()["hint"]
    assert strict.series("taxiway_http_requests_in_flight") == 0


def test_the_second_answer_to_a_unary_call_stops_the_model(strict: Telling) -> None:
    with Raw(strict.server.address) as connection:
        assert connection.send(stream([2, 3, FLOOD], verb="infer", id="two")).reply().status == 501
    wait_until(lambda: strict.executor.running == 0, "nothing runs")
    assert "two" in strict.executor.abandoned


@pytest.mark.parametrize("script", [[ERROR], [REJECT], [2, REJECT]])
def test_an_error_is_the_answer_to_a_unary_call(strict: Telling, script: list[int]) -> None:
    with Raw(strict.server.address) as connection:
        told = connection.send(stream(script, verb="infer")).reply()
    assert (told.status, told.json()["code"]) == (500, "model-failed")


# --- as Triton -----------------------------------------------------------------------------------------------


def test_triton_refuses_infer(triton: Telling) -> None:
    with Raw(triton.server.address) as connection:
        told = connection.send(stream([3], verb="infer")).reply()
        text = "HTTP end point doesn't support models with decoupled transaction policy"
        assert (told.status, told.json()) == (501, {"error": text})
        assert connection.send(stream([3])).reply().status == 404


@pytest.mark.parametrize("script", [[], [2, 3]])
def test_triton_says_200_to_generate_and_an_error(triton: Telling, script: list[int]) -> None:
    with Raw(triton.server.address) as connection:
        told = connection.send(stream(script, verb="generate")).reply()
        text = (
            "generate expects model to produce exactly 1 response, use generate stream for model that generates "
            "various number of responses"
        )
        assert (told.status, told.json()) == (200, {"error": text})


def test_triton_streams_after_an_error_too(triton: Telling) -> None:
    connection, told = begun(triton, stream([ERROR, 3], verb="generate_stream"))
    with connection:
        assert told.status == 400
        assert told.event() == {"error": "not this one"}
        assert told.event() == {"model_name": "teller", "model_version": "1", "y": 3}
        assert told.rest() == []


# --- what is counted -----------------------------------------------------------------------------------------


def test_requests_count_once_and_answers_by_their_place(tmp_path: Path) -> None:
    with serve_teller(tmp_path) as telling:
        with Raw(telling.server.address) as connection:
            for script in ([3, 5, 7], [3, ERROR], []):
                connection.send(stream(script))
                if script:
                    Stream(connection).rest()
                else:
                    connection.reply()
        (told,) = telling.server.ask("GET", "/v2/models/teller/stats").json()["model_stats"]
        places = {
            place: {key: count["count"] for key, count in stats.items() if count["count"]}
            for place, stats in told["response_stats"].items()
        }
        first = telling.series("nv_inference_first_response_histogram_ms_count", model="teller")
        answers = telling.series("taxiway_inference_answers_total", model="teller", outcome="success")
    computed = {"compute_infer", "compute_output", "success"}
    assert places == {
        "0": {**dict.fromkeys(computed, 2), "empty_response": 1},
        "1": {**dict.fromkeys(computed, 1), "fail": 1},
        "2": {**dict.fromkeys(computed, 1), "empty_response": 1},
        "3": {"empty_response": 1},
    }
    assert (told["inference_count"], told["execution_count"]) == (3, 3)
    assert told["inference_stats"]["success"]["count"] == 3
    assert (first, answers) == (3, 4)


def test_a_stream_that_outlasts_the_drain_ends_by_an_error(tmp_path: Path) -> None:
    with serve_teller(tmp_path, limits__drain_timeout_s=0.3) as telling:
        connection, told = begun(telling, stream([3, PAUSE, 5], id="late"))
        with connection:
            told.event()
            telling.server.stop()
            assert told.event()["code"] == "unavailable"
            assert told.rest() == []
            assert connection.at_end()


def test_a_stream_is_finished_while_the_server_drains(tmp_path: Path) -> None:
    with serve_teller(tmp_path, limits__drain_timeout_s=20) as telling:
        connection, told = begun(telling, stream([3, PAUSE, 5]))
        with connection:
            told.event()
            telling.server.stop()
            telling.executor.go_on()
            assert (numbers([told.event()]), told.rest()) == ([[5]], [])
            assert connection.at_end()


def test_a_stream_has_one_line_in_the_access_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with serve_teller(tmp_path, log__access=True) as telling:
        connection, told = begun(telling, stream([3, 5]))
        with connection:
            body_bytes = sum(len(chunk) for chunk in told.rest())
            assert connection.send(stream([ERROR])).reply().status == 500
        connection, told = begun(telling, stream([3, PAUSE], id="gone"))
        with connection:
            told.event()
        wait_until(lambda: "gone" in telling.executor.abandoned, "the request is given up")
        telling.executor.go_on()
    lines = [record.__dict__["taxiway_fields"] for record in caplog.records if record.name == "taxiway.access"]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/v2/models/teller/infer_stream", status) for status in (200, 500, 499)
    ]
    assert body_bytes < lines[0]["bytes_out"] < body_bytes + 300
    assert 0 < lines[2]["bytes_out"] < lines[0]["bytes_out"]


def test_a_traced_stream_tells_its_first_answer_and_its_end(tmp_path: Path) -> None:
    file = tmp_path / "traces.json"
    level = {"trace_level": ["TIMESTAMPS", "TENSORS"], "trace_rate": "1"}
    with serve_teller(tmp_path / "models", trace__file=str(file)) as telling:
        assert telling.server.ask("POST", "/v2/trace/setting", level).status == 200
        connection, told = begun(telling, stream([3, PAUSE, 4, FINAL], id="a"))
        with connection:
            told.event()
            telling.executor.go_on()
            told.rest()
            assert connection.send(stream([2, 4, FLOOD], verb="infer", id="two")).reply().status == 501
    traces: dict[int, list[Any]] = {}
    for part in json.loads(file.read_bytes()):
        traces.setdefault(part["id"], []).append(part)
    streamed, refused = traces.values()
    names = [stamp["name"] for part in streamed for stamp in part.get("timestamps", ())]
    assert names.count("INFER_RESPONSE_COMPLETE") == 1
    assert names.index("COMPUTE_START") < names.index("INFER_RESPONSE_COMPLETE") < names.index("REQUEST_END")
    assert [part["tensor"] for part in streamed if part.get("activity") == "TENSOR_BACKEND_OUTPUT"] == [
        {"name": "y", "data": "3", "shape": "1", "dtype": "INT64"}
    ]
    assert {"id": 2, "model_name": "teller", "model_version": 1, "request_id": "two"} in refused


def test_streams_go_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca.crt")
    pair = authority.issue(tmp_path)
    flags = {"tls__certificate": str(pair.certificate), "tls__key": str(pair.key)}
    with (
        serve_teller(tmp_path / "models", **flags) as telling,
        SecureRaw(telling.server.address, authority.client()) as connection,
    ):
        told = Stream(connection.send(stream([3, PAUSE, 5])))
        assert numbers([told.event()]) == [[3]]
        telling.executor.go_on()
        assert (numbers([told.event()]), told.rest()) == ([[5]], [])


def test_a_stream_s_span_tells_when_the_answers_came(tmp_path: Path) -> None:
    with collect() as collector:
        settings = {"trace__mode": "opentelemetry", "trace__endpoint": collector.url, "trace__rate": 1}
        with serve_teller(tmp_path, trace__level=["TIMESTAMPS"], **settings) as telling:
            connection, told = begun(telling, stream([3, PAUSE, 5]))
            with connection:
                told.event()
                telling.executor.go_on()
                told.rest()
            spans = {span.name: span for span in collector.wait_for(5)}
    whole, answers = spans.pop("POST /v2/models/{model}/infer_stream"), spans["stream"]
    assert set(spans) == {"queue", "compute", "stream", "respond"}
    assert whole.start_ns < answers.start_ns < answers.end_ns <= whole.end_ns
