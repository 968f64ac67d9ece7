"""Trace settings and log settings over HTTP, in Triton's words."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.flow.serving import Server, serve
from tests.support.onnx_models import doubler

from taxiway.telemetry.logs import Log, configure_logs, structured_handler

SERVER = "/v2/trace/setting"
DOUBLER = "/v2/models/doubler/trace/setting"
OFF = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    doubler(tmp_path / "doubler.onnx")
    doubler(tmp_path / "other.onnx")
    with serve([tmp_path / "doubler.onnx", tmp_path / "other.onnx"], trace__file=str(tmp_path / "t.json")) as one:
        yield one


@pytest.fixture
def without_file(tmp_path: Path) -> Iterator[Server]:
    with serve(doubler(tmp_path / "doubler.onnx")) as one:
        yield one


def test_at_first_nothing_is_traced(without_file: Server) -> None:
    for path in (SERVER, DOUBLER):
        answer = without_file.ask("GET", path)

        assert (answer.status, list(answer.json().items())) == (200, list(OFF.items()))


def test_a_model_follows_the_server_until_it_is_told_otherwise(server: Server) -> None:
    server.ask("POST", SERVER, {"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "100"})
    server.ask("POST", DOUBLER, {"trace_level": ["TENSORS", "TIMESTAMPS"], "trace_rate": "7"})
    server.ask("POST", SERVER, {"trace_rate": "3", "trace_count": "50", "log_frequency": "9"})

    own, other = server.ask("GET", DOUBLER).json(), server.ask("GET", "/v2/models/other/trace/setting").json()

    assert (own["trace_level"], own["trace_rate"], own["trace_count"]) == (["TIMESTAMPS", "TENSORS"], "7", "50")
    assert (other["trace_level"], other["trace_rate"], other["log_frequency"]) == (["TIMESTAMPS"], "3", "9")


def test_null_takes_a_change_back(server: Server) -> None:
    server.ask("POST", SERVER, {"trace_level": ["TIMESTAMPS"], "trace_rate": "3"})
    server.ask("POST", DOUBLER, {"trace_level": ["TENSORS"], "trace_rate": "7"})

    own = server.ask("POST", DOUBLER, {"trace_rate": None, "trace_level": None}).json()
    whole = server.ask("POST", SERVER, {"trace_rate": None, "trace_level": None}).json()

    assert (own["trace_rate"], own["trace_level"]) == ("3", ["TIMESTAMPS"])
    assert (whole["trace_rate"], whole["trace_level"]) == ("1000", ["OFF"])


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"trace_file": "x"}, 501, "trace file location can not be updated through network protocol"),
        ({"trace_file": None}, 501, "trace file location can not be updated through network protocol"),
        ({"trace_level": ["OFF", "TENSORS"]}, 400, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["BAD"]}, 400, "unknown trace level 'BAD'"),
        ({"trace_level": "TENSORS"}, 400, "'trace_level' is TENSORS; it must be an array of strings"),
        ({"trace_rate": "abc"}, 400, "Unable to parse 'trace_rate', got: abc"),
        ({"trace_rate": 5}, 400, "'trace_rate' is 5; it must be a string"),
        ({"trace_rate": "0"}, 400, "Attempting to set invalid trace setting :sample rate must be non-zero"),
        (
            {"trace_rate": "4294967296"},
            400,
            "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: 4294967296",
        ),
        ({"trace_count": "-2"}, 400, "Unable to parse 'trace_count'. Expecting value >= -1, got:-2"),
        (
            {"trace_count": "99999999999"},
            400,
            "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ], got: 99999999999",
        ),
        ({"log_frequency": "-1"}, 400, "Unable to parse 'log_frequency', value is out of range"),
        ({"trace_mode": "jaeger"}, 400, "unknown trace mode 'jaeger'"),
        ({"trace_rat": "5"}, 400, "unknown trace setting 'trace_rat'"),
        ([], 400, "the settings must be a JSON object"),
        (b"", 400, ""),
        (b"{bad", 400, ""),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(server: Server, change: Any, status: int, error: str) -> None:
    before = server.ask("GET", SERVER).json()
    with_more = {"trace_count": "9", **change} if isinstance(change, dict) else change

    answer = server.ask("POST", SERVER, with_more)

    assert answer.status == status, answer.body
    assert answer.json()["error"].startswith(error)
    assert server.ask("GET", SERVER).json() == before


def test_nothing_is_traced_without_a_file_to_write_to(without_file: Server) -> None:
    answer = without_file.ask("POST", SERVER, {"trace_level": ["TIMESTAMPS"]})

    assert answer.status == 400
    assert answer.json()["error"] == "Attempting to set invalid trace setting :trace file name is not given"
    assert "--trace.file" in answer.json()["hint"]


def test_the_mode_holds_for_the_whole_server(server: Server) -> None:
    assert server.ask("POST", DOUBLER, {"trace_mode": "triton"}).status == 400
    assert server.ask("POST", SERVER, {"trace_mode": "triton"}).status == 200


def test_an_unknown_model_has_no_settings(server: Server) -> None:
    for method, body in (("GET", None), ("POST", b"{bad")):
        answer = server.ask(method, "/v2/models/nope/trace/setting", body)

        assert (answer.status, answer.json()["error"]) == (404, "Request for unknown model : nope")
    assert server.ask("GET", "/v2/models/doubler/versions/1/trace/setting").status == 404
    assert server.ask("PUT", SERVER, {}).status == 405


def test_the_extensions_are_listed_in_tritons_order(server: Server) -> None:
    extensions = server.ask("GET", "/v2").json()["extensions"]

    assert extensions[-3:] == ["statistics", "trace", "logging"]


# --- logging


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, stream = root.level, io.StringIO()
    configure_logs(form="text", level="info", stream=stream)
    yield stream
    handler = structured_handler()
    assert handler is not None
    root.removeHandler(handler)
    root.setLevel(level)


def test_log_settings_are_told_as_they_are(server: Server, log: io.StringIO) -> None:
    told = {"log_file": "", "log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0}

    answer = server.ask("GET", "/v2/logging")

    assert list(answer.json().items()) == [*told.items(), ("log_format", "ISO8601")]


def test_log_settings_act_on_the_log(server: Server, log: io.StringIO) -> None:
    teller = Log("tests.told")
    answer = server.ask("POST", "/v2/logging", {"log_info": False, "log_verbose_level": 2})
    for tell in (teller.debug, teller.info, teller.warning):
        tell(tell.__name__)
    server.ask("POST", "/v2/logging", {"log_info": True, "log_verbose_level": 0, "log_warning": False})
    for tell in (teller.debug, teller.info, teller.warning):
        tell(f"{tell.__name__}_again")

    assert (answer.json()["log_info"], answer.json()["log_verbose_level"]) == (False, 2)
    told = [line.split()[2] for line in log.getvalue().splitlines() if "tests.told" in line]
    assert told == ["debug", "warning", "info_again"]


def test_the_log_can_be_written_as_triton_writes_it(server: Server, log: io.StringIO) -> None:
    server.ask("POST", "/v2/logging", {"log_format": "default"})
    Log("tests.told").warning("asked", model="a b")
    server.ask("POST", "/v2/logging", {"log_format": "ISO8601"})
    Log("tests.told").warning("asked")

    lines = [line for line in log.getvalue().splitlines() if "asked" in line]
    assert lines[0].startswith("W")
    assert lines[0].endswith('] "asked model=\\"a b\\""')
    assert "Z WARNING asked" in lines[1]


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"log_file": "x"}, 501, "log file location can not be updated through network protocol"),
        ({"log_info": "false"}, 400, "'log_info' is 'false'; it must be true or false"),
        ({"log_verbose_level": True}, 400, "'log_verbose_level' is 'True'; it must be a number"),
        ({"log_verbose_level": -1}, 400, "'log_verbose_level' is -1; it must be from 0 to 2147483647"),
        ({"log_format": "bad"}, 400, "invalid argument for --log_format, got: bad"),
        ({"log_level": "info"}, 400, "unknown log setting 'log_level'"),
        ([], 400, "the settings must be a JSON object"),
    ],
)
def test_wrong_log_settings_change_nothing(
    server: Server, log: io.StringIO, change: Any, status: int, error: str
) -> None:
    with_more = {"log_error": False, **change} if isinstance(change, dict) else change

    answer = server.ask("POST", "/v2/logging", with_more)

    assert (answer.status, answer.json()["error"]) == (status, error)
    assert server.ask("GET", "/v2/logging").json()["log_error"] is True


def test_logs_that_are_not_ours_are_left_alone(server: Server) -> None:
    assert structured_handler() is None

    answer = server.ask("POST", "/v2/logging", {"log_info": False})

    assert answer.status == 409
