"""A scrape of a server that runs holds what the catalogue promises."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from tests.flow.serving import serve
from tests.support import onnx_models, stateful_models

from taxiway.telemetry.catalogue import (
    ANSWERS,
    ANSWERS_NOT_JUDGED,
    AUTH_REFUSED,
    CATALOGUE,
    CONTROL_RESTARTS,
    CONTROL_UP,
    GRPC_CALLS,
    INVALID,
    PROCESS_DEATHS,
    PROCESSES,
    RELOADS,
    TRACES,
    WORKER_MEMORY,
    WORKER_RESTARTS,
    WORKERS,
)
from taxiway.telemetry.gpu.families import GPU_FAMILIES

_ONLY_ONCE_IT_HAPPENED = {GRPC_CALLS.name, INVALID.name, TRACES.name}
"""Labels are the codes of errors that were met, and the modes in which something was traced."""
_ONLY_WHERE_IT_IS_ON = {AUTH_REFUSED.name, RELOADS.name}
"""A server without keys or TLS has nothing to tell of them."""
_ONLY_OF_SOME_MODELS = {ANSWERS.name, PROCESSES.name, PROCESS_DEATHS.name}
"""Those that are decoupled, and those that run in processes of their own."""
_THE_SUPERVISORS = {WORKERS.name, WORKER_RESTARTS.name, WORKER_MEMORY.name, CONTROL_UP.name, CONTROL_RESTARTS.name}
_CONTROLS = (
    "taxiway_drift_",
    "taxiway_console_",
    "taxiway_history_",
    "taxiway_capture_",
    "taxiway_mlflow_",
    "taxiway_model_accuracy",
)
_OF_CONTROL = {ANSWERS_NOT_JUDGED.name, *(one.name for one in CATALOGUE if one.name.startswith(_CONTROLS))}
"""There is none in this process; tests/system/test_workers.py looks at a whole server."""
_OF_GPUS = {family.name for family in GPU_FAMILIES}
"""There are none; tests/system/test_gpus.py pretends that there are."""


def test_every_family_is_in_a_scrape(tmp_path: Path) -> None:
    model = onnx_models.cached(onnx_models.doubler(tmp_path / "double/1/model.onnx"))
    stateful = stateful_models.accumulator(tmp_path / "stateful")
    with serve([model, stateful], cache__max_bytes=1, shared_memory__system=True) as server:
        server.scrape()  # a rate needs two
        told = {line.split()[2] for line in server.scrape().splitlines() if line.startswith("# TYPE ")}
    absent = {family.name for family in CATALOGUE} - told
    elsewhere = _THE_SUPERVISORS | _OF_CONTROL | _OF_GPUS
    assert absent <= _ONLY_ONCE_IT_HAPPENED | _ONLY_WHERE_IT_IS_ON | _ONLY_OF_SOME_MODELS | elsewhere


def test_lines_that_were_held_back_are_counted(tmp_path: Path) -> None:
    with serve(onnx_models.doubler(tmp_path / "double.onnx")) as server:
        server.plane._suppressed_lines = lambda: 7
        assert "taxiway_log_suppressed_lines_total 7" in server.scrape()


def test_prometheus_is_told_openmetrics(tmp_path: Path) -> None:
    asked = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    with serve(onnx_models.doubler(tmp_path / "double.onnx")) as server:
        strict, plain = server.scrape_as(asked), server.scrape_as("*/*")
    openmetrics = _parser("openmetrics.parser").text_string_to_metric_families
    prometheus = _parser("parser").text_string_to_metric_families
    told = {family.name: family.type for family in openmetrics(strict.body.decode())}
    text = {family.name: family.type for family in prometheus(plain.body.decode())}

    assert strict.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert told.keys() == text.keys()
    assert (told["nv_inference_request_success"], text["nv_inference_request_success"]) == ("unknown", "counter")
    assert told["taxiway_inference_failures"] == "counter"


def _parser(name: str) -> Any:
    return importlib.import_module(f"prometheus_client.{name}")
