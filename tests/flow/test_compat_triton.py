"""What `--compat triton` does for /infer before the body is read, spoken to over a socket."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flow.plain_models import write_plain_models
from tests.flow.serving import Server, serve

BODY = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'
PATH = "/v2/models/doubler/infer"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models: list[Path] = write_plain_models(tmp_path_factory.mktemp("models"))
    with serve(models, compat="triton") as server:
        yield server


@pytest.mark.parametrize(
    ("path", "coding", "status"),
    [
        ("/v2/models/nope/infer", "br", 404),
        ("/v2/models/nope/infer", "gzip", 404),
        ("/v2/models/doubler/versions/9/infer", "br", 404),
        (PATH, "br", 501),
        (PATH, "deflate", 400),
        (PATH, "gzip", 200),
        (PATH, "identity", 200),
    ],
)
def test_the_model_is_looked_for_before_the_coding(triton: Server, path: str, coding: str, status: int) -> None:
    body = BODY if coding == "identity" else gzip.compress(BODY)

    answer = triton.ask("POST", path, body, {"Content-Encoding": coding})

    assert answer.status == status, answer.body


def test_a_large_coded_body_is_decoded_in_a_thread(triton: Server) -> None:
    body = gzip.compress(BODY + b" " * 10_000_000)

    answer = triton.ask("POST", PATH, body, {"Content-Encoding": "gzip"})

    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0]
