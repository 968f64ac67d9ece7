"""GET /v2/openapi.json describes every route, and is what its standard asks for."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.flow.plain_models import write_plain_models
from tests.flow.serving import Server, serve

from taxiway.server.wire.openapi import OPERATIONS, describe_routes, operation_of
from taxiway.server.wire.openapi_schemas import SCHEMAS
from taxiway.server.wire.routes import Route


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(write_plain_models(tmp_path_factory.mktemp("models"))) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Server) -> Any:
    answer = server.ask("GET", "/v2/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@pytest.fixture(scope="module")
def routes(server: Server) -> list[Route]:
    return server.plane._routes()


def test_every_route_is_described(document: Any, routes: list[Route]) -> None:
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.pattern) for route in routes}


def test_every_route_has_an_operation_of_its_own(routes: list[Route]) -> None:
    """Without one it would be described by its row in the table alone: add it to OPERATIONS."""
    assert [route.pattern for route in routes if operation_of(route) is None] == []


def test_no_operation_is_left_over(routes: list[Route]) -> None:
    assert {id(operation_of(route)) for route in routes} == {id(operation) for operation in OPERATIONS.values()}


def test_a_route_without_an_operation_is_described_all_the_same() -> None:
    route = Route("GET", "/new/{thing}", lambda exchange: None, "Something new")
    described = describe_routes([route], "1")["paths"]["/new/{thing}"]["get"]
    assert described["summary"] == "Something new"
    assert [parameter["name"] for parameter in described["parameters"]] == ["thing"]


def test_identities_are_unique(document: Any) -> None:
    identities = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(identities) == len(set(identities))


def test_every_reference_leads_somewhere_and_every_schema_is_used(document: Any) -> None:
    used = set(_references(document))
    assert used == {f"#/components/schemas/{name}" for name in SCHEMAS}


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def test_the_binary_extension_is_described(document: Any) -> None:
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    name = "Inference-Header-Content-Length"
    assert set(infer["requestBody"]["content"]) == {"application/json", "application/octet-stream"}
    assert set(infer["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    assert name in {parameter["name"] for parameter in infer["parameters"]}
    assert name in infer["responses"]["200"]["headers"]


def test_it_is_valid_openapi(document: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize(
    ("method", "path", "body", "schema"),
    [
        ("GET", "/v2", None, "ServerMetadata"),
        ("GET", "/v2/health/live", None, "Live"),
        ("GET", "/v2/health/ready", None, "Ready"),
        ("GET", "/v2/models", None, "Models"),
        ("GET", "/v2/models/stats", None, "Statistics"),
        ("GET", "/v2/models/doubler", None, "ModelMetadata"),
        ("GET", "/v2/models/doubler/ready", None, "ModelReady"),
        ("GET", "/v2/models/doubler/config", None, "ModelConfig"),
        ("POST", "/v2/repository/index", None, "Index"),
        (
            "POST",
            "/v2/models/doubler/infer",
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]},
            "InferResponse",
        ),
        ("POST", "/v2/models/doubler/generate", {"x": [1, 2]}, "GenerateResponse"),
        ("POST", "/v1/models/doubler:predict", {"instances": [[1, 2]]}, "PredictResponse"),
        ("POST", "/v1/models/doubler:predict", {"inputs": [[1, 2]]}, "PredictResponse"),
        ("POST", "/v1/models/doubler:predict", {}, "Error"),
        ("GET", "/nowhere", None, "Error"),
    ],
)
def test_answers_fit_their_schemas(
    server: Server, document: Any, method: str, path: str, body: Any, schema: str
) -> None:
    pytest.importorskip("openapi_spec_validator")  # brings jsonschema
    jsonschema = importlib.import_module("jsonschema")
    answer = server.ask(method, path, body)
    whole = json.loads(json.dumps(document).replace("#/components/schemas/", "#/$defs/"))
    jsonschema.validate(answer.json(), {"$ref": f"#/$defs/{schema}", "$defs": whole["components"]["schemas"]})
