"""`taxiway profile` against a real server: what it prints, writes, and how it ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.flow.serving import QUICK, Server, serve
from tests.support.onnx_models import doubler, poisonable

from taxiway.cli.main import taxiway

assert QUICK
VALID_OR_NOT = (0, 7)
"""The generator may be late where tests share a machine; then the run says so, with everything else as it is."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("models")
    with serve([doubler(folder / "doubler.onnx", 4), poisonable(folder / "picky.onnx")]) as running:
        yield running


def profile(*words: str) -> Result:
    return CliRunner().invoke(taxiway, ["profile", "--duration", "1s", "--warm-up", "200ms", *words])


def measured(path: Path, *words: str) -> Any:
    result = profile("--json", str(path), *words)
    assert result.exit_code in VALID_OR_NOT or path.exists(), result.output
    return json.loads(path.read_text())


def test_an_open_loop_is_told_in_every_form(server: Server, tmp_path: Path) -> None:
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    result = profile(server.url("/v2/models/doubler"), "--rate", "100", "--html", str(page), "--json", str(data))
    told = json.loads(data.read_text())
    assert told["requests"] == told["answered"] > 50
    assert sum(count for _, count in told["histogram_ns"]) == told["requests"]
    assert told["latency_ms"]["p50_ms"] >= told["service_ms"]["p50_ms"] > 0
    assert told["phases"]["requests"] >= told["requests"]
    assert {"queue", "compute_infer"} <= set(told["phases"]["by_phase"])
    assert "response ms" in result.output
    text = page.read_text()
    assert text.count("<svg") == 2
    assert "://" not in text.replace(server.http, "")


def test_a_closed_loop_keeps_so_many_under_way(server: Server, tmp_path: Path) -> None:
    told = measured(tmp_path / "data.json", server.url("/v2/models/doubler"), "--concurrency", "3")
    assert told["valid"]
    assert told["answered"] == told["requests"] > 100


def test_binary_tensors(server: Server, tmp_path: Path) -> None:
    told = measured(tmp_path / "data.json", server.url("/v2/models/doubler/versions/1"), "--binary", "--rate", "50")
    assert told["errors"] == {}


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_ipv6(tmp_path: Path) -> None:
    with serve(doubler(tmp_path / "doubler.onnx"), http__host="::1", grpc__host="::1") as server:
        assert server.grpc.startswith("[::1]:")
        for target in (server.url("/v2/models/doubler"), f"grpc://{server.grpc}/doubler"):
            told = measured(tmp_path / "data.json", target, "--rate", "50")
            assert (told["errors"], told["answered"]) == ({}, told["requests"])


def test_a_ramp_is_a_line_for_each_rate(server: Server) -> None:
    result = profile(server.url("/v2/models/doubler"), "--ramp", "40:80:40")
    lines = [line for line in result.output.splitlines() if line[:1].isdigit()]
    assert len(lines) == 2


def test_errors_are_counted_with_an_example(server: Server, tmp_path: Path) -> None:
    workload = tmp_path / "requests.jsonl"
    rows = [[3], [99]]
    workload.write_text(
        "".join(
            json.dumps({"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": row}]}) + "\n"
            for row in rows
        )
    )
    path = tmp_path / "data.json"
    told = measured(path, server.url("/v2/models/picky"), "--rate", "50", "--workload", str(workload))
    ((kind, count),) = told["errors"].items()
    assert kind.startswith("http ")
    assert count == pytest.approx(told["requests"] / 2, abs=1)
    assert told["error_examples"][kind]


def test_several_processes_share_the_schedule(server: Server, tmp_path: Path) -> None:
    words = (server.url("/v2/models/doubler"), "--rate", "200", "--seed", "7", "--arrival", "constant")
    alone = measured(tmp_path / "one.json", *words, "--processes", "1")
    together = measured(tmp_path / "two.json", *words, "--processes", "2")
    assert together["answered"] == alone["answered"] == 200


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["http://127.0.0.1:9/v2/models/x"], "nobody answers at 127.0.0.1:9", 5),
        (["ftp://127.0.0.1/v2/models/x"], "is not an URL of", 2),
        (["http://127.0.0.1:9/nowhere"], "no path of a known protocol", 2),
        (["http://127.0.0.1:9/v2/models/x", "--json", "/nowhere/at/all.json"], "cannot be written", 2),
        (["http://127.0.0.1:9/v2/models/x", "--ramp", "9"], "FIRST:LAST:STEP", 2),
        (["http://127.0.0.1:9/v2/models/x", "--rate", "-1"], "rate_per_s is -1", 2),
        (["http://127.0.0.1:9/v2/models/x", "--arrival", "replay"], "needs the times of a workload", 2),
        (["http://127.0.0.1:9/v2/models/x", "--rate", "0"], "rate_per_s is 0 and must be above 0", 2),
        (["http://127.0.0.1:9/v2/models/x", "--rate", "inf"], "rate_per_s is inf and must be above 0, and finite", 2),
        (["http://127.0.0.1:9/v2/models/x", "--rate", "nan"], "rate_per_s is nan and must be above 0", 2),
        (["http://127.0.0.1:9/v2/models/x", "--rate", "1e6", "--duration", "30s"], "3.02e+07 requests", 2),
        (["http://127.0.0.1:9/v2/models/x", "--duration", "9" * 400], "duration_s is inf", 2),
        (["http://127.0.0.1:9/v2/models/x", "--warm-up", "9" * 400], "warm_up_s is inf", 2),
        (["http://127.0.0.1:9/v2/models/x", "--seed", "-1"], "seed is -1 and must not be below 0", 2),
        (["http://127.0.0.1:9/v2/models/x", "--processes", "-1"], "processes is -1 and must be within 0", 2),
        (["http://127.0.0.1:9/v2/models/x", "--ramp", "1:1000000:0.0001"], "has more than 1000 rates", 2),
        (["http://127.0.0.1:9/v2/models/x", "--serve", "--log.level 'info"], "cannot be split into flags", 2),
        (["http://127.0.0.1:9/v2/models/x", "--header", "X: €"], "header 'X' cannot be given: it is '€'", 2),
        (["http://127.0.0.1:9/v2/models/x", "--header", "X Y: 1"], "header 'X Y' cannot be given", 2),
        (["grpc://127.0.0.1:9/x", "--header", "X: é"], "header 'X' cannot be given: it is 'é'", 2),
        (["some.onnx", "--header", "X: €"], "header 'X' cannot be given", 2),
        (["http://[::1/v2/models/x"], "'http://[::1/v2/models/x' is not an URL of", 2),
        (["http://127.0.0.1:9/v2/models/é"], "has characters that no URL has", 2),
        (["http://a..b:9/v2/models/x"], "nobody answers at a..b:9", 5),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, code: int) -> None:
    result = profile(*words)
    error = result.exception
    told = f"{result.output}{getattr(error, 'message', '')}"
    assert said in told, told
    assert code == (result.exit_code if result.exit_code == 2 or error is None else _code_of(error))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"body": {"inputs": [{"name": "x"}]}}, "request 1 of the workload, body.inputs[0].datatype: is missing"),
        (
            {"body": {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1]}]}},
            "body.inputs[0].data: has 1 elements, its shape has 2",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4]}], "headers": {"X": "€"}},
            "header 'X' cannot be given",
        ),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_workload_that_cannot_be_sent_is_refused(
    server: Server, tmp_path: Path, scheme: str, line: Any, said: str
) -> None:
    workload = tmp_path / "requests.jsonl"
    workload.write_text(json.dumps(line) + "\n", encoding="utf-8")
    target = server.url("/v2/models/doubler") if scheme == "http" else f"grpc://{server.grpc}/doubler"
    error = profile(target, "--workload", str(workload)).exception
    assert _code_of(error or AssertionError("it was sent")) == 2
    assert said in str(error)


def _code_of(error: BaseException) -> int:
    from taxiway.core.errors import EXIT_CODES, TaxiwayError

    assert isinstance(error, TaxiwayError), error
    return EXIT_CODES[error.kind]


def test_a_model_that_is_not_there_is_named(server: Server) -> None:
    result = profile(server.url("/v2/models/nothing"))
    assert "/v2/models/nothing" in str(result.exception)


def test_a_broken_promise_is_a_verdict(server: Server) -> None:
    result = profile(server.url("/v2/models/doubler"), "--concurrency", "1", "--slo", "p50<0.001ms")
    assert _code_of(result.exception or AssertionError(result.output)) == 6


def test_a_scenario_says_what_it_proves(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    result = profile(server.url("/v2/models/doubler"), "--scenario", "single-stream", "--json", str(path))
    assert "single-stream: p90 of" in result.output
    assert json.loads(path.read_text())["claim"]["passed"]
