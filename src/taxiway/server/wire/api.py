"""Every route of the front door."""

from __future__ import annotations

from typing import NamedTuple

from taxiway.server.guard import ANY
from taxiway.server.wire.cold import Hold
from taxiway.server.wire.extensions import SettingsEndpoints
from taxiway.server.wire.feedback import FeedbackEndpoint
from taxiway.server.wire.generate import GenerateEndpoint
from taxiway.server.wire.kserve_v1 import PredictEndpoint
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.oip import Common, InferEndpoint
from taxiway.server.wire.openapi import OpenApiEndpoint
from taxiway.server.wire.plain import Edge
from taxiway.server.wire.recording import RecordingEndpoints
from taxiway.server.wire.routes import OPEN, PROBE_BODY_BYTES, Handler, Route
from taxiway.server.wire.shared_memory import SharedMemoryEndpoints
from taxiway.server.wire.status import TRITON, Profile
from taxiway.server.wire.streaming import InferStreamEndpoint
from taxiway.server.wire.torchserve import PredictionEndpoint, word_error


class Endpoints(NamedTuple):
    """Everything that answers on the inference port."""

    infer: InferEndpoint
    infer_stream: InferStreamEndpoint
    generate: GenerateEndpoint
    predict: PredictEndpoint
    prediction: PredictionEndpoint
    manage: ManagementEndpoints
    settings: SettingsEndpoints
    memory: SharedMemoryEndpoints
    feedback: FeedbackEndpoint
    recording: RecordingEndpoints
    hold: Hold
    """What is made of an endpoint whose model may be cold."""


def make_endpoints(
    common: Common,
    manage: ManagementEndpoints,
    settings: SettingsEndpoints,
    memory: SharedMemoryEndpoints,
    feedback: FeedbackEndpoint,
    recording: RecordingEndpoints,
    profile: Profile,
) -> Endpoints:
    """The endpoints of one server; the front doors of plain JSON submit through `infer`'s codecs."""
    as_triton = profile is TRITON
    infer = InferEndpoint(common, as_triton=as_triton)
    edge = Edge(common.routing, common.admission, common.limits, infer)
    plain = GenerateEndpoint(edge, as_triton=as_triton), PredictEndpoint(edge), PredictionEndpoint(edge)
    stream, hold = InferStreamEndpoint(common, infer), common.hold
    return Endpoints(infer, stream, *plain, manage, settings, memory, feedback, recording, hold)


def inference_routes(endpoints: Endpoints, profile: Profile, version: str) -> list[Route]:
    """The routes of one profile: Triton's own, and beside them, unless it is Triton's profile, what Triton lacks.

    `version` is the server's, for its description of itself.
    """
    routes = _triton_routes(endpoints, as_triton=profile is TRITON)
    if profile is not TRITON:
        routes += _further_routes(endpoints)
        describe = OpenApiEndpoint()
        routes.append(Route("GET", "/v2/openapi.json", describe, "This description", scope=ANY))
        describe.describe(routes, version)
    return routes


def _triton_routes(endpoints: Endpoints, *, as_triton: bool) -> list[Route]:
    """The Open Inference Protocol v2 and the extensions that are served."""
    manage, settings, hold = endpoints.manage, endpoints.settings, endpoints.hold
    infer = hold(endpoints.infer.find_before_decoding if as_triton else endpoints.infer)
    generate = hold(endpoints.generate)
    decodes = not as_triton
    return [
        Route("GET", "/v2", manage.server_metadata, "Name, version and extensions of the server", scope=ANY),
        _probe("/v2/health/live", manage.live, "Whether the process answers"),
        _probe("/v2/health/ready", manage.ready, "Whether every model is ready"),
        Route("GET", "/v2/models/stats", manage.statistics, "Statistics of every model", scope="read"),
        *_versioned("GET", "", manage.model_metadata, "Inputs, outputs and versions of a model", scope="read"),
        *_versioned_probe("/ready", manage.model_ready, "Whether a model is ready"),
        *_versioned("GET", "/config", manage.model_config, "Configuration of a model", scope="read"),
        *_versioned("GET", "/stats", manage.statistics, "Statistics of a model", scope="read"),
        *_versioned("POST", "/infer", infer, "Run a model", scope="infer", decodes=decodes),
        *_versioned("POST", "/generate", generate, "Run a model on a flat JSON object", scope="infer", decodes=decodes),
        *_versioned(
            "POST", "/generate_stream", generate, "Likewise, as server-sent events", scope="infer", decodes=decodes
        ),
        Route("POST", "/v2/repository/index", manage.index, "Versions and their states", scope="read"),
        Route("POST", "/v2/repository/{repository}/index", manage.index, "Same as /v2/repository/index", scope="read"),
        Route("POST", "/v2/repository/models/{model}/load", manage.load, "Load a model, or load it again"),
        Route("POST", "/v2/repository/models/{model}/unload", manage.unload, "Stop serving a model"),
        Route("POST", "/v2/repository/{repository}/models/{model}/load", manage.load, "Refused: name no repository"),
        Route("POST", "/v2/repository/{repository}/models/{model}/unload", manage.unload, "Refused likewise"),
        Route("GET", "/v2/trace/setting", settings.trace_settings, "What is traced", scope="read"),
        Route("POST", "/v2/trace/setting", settings.change_trace_settings, "Change what is traced"),
        Route(
            "GET",
            "/v2/models/{model}/trace/setting",
            settings.trace_settings,
            "What is traced of a model",
            scope="read",
        ),
        Route(
            "POST", "/v2/models/{model}/trace/setting", settings.change_trace_settings, "Change it for this model only"
        ),
        Route("GET", "/v2/logging", settings.log_settings, "What is logged", scope="read"),
        Route("POST", "/v2/logging", settings.change_log_settings, "Change what is logged"),
        *endpoints.memory.routes(),
    ]


def _further_routes(endpoints: Endpoints) -> list[Route]:
    """What the protocol or KServe has and Triton answers 404."""
    manage = endpoints.manage
    predict, stream = endpoints.hold(endpoints.predict), endpoints.hold(endpoints.infer_stream)
    return [
        Route("GET", "/v2/", manage.server_metadata, "Same as /v2", scope=ANY),
        Route("GET", "/v2/models", manage.models, "Names of the models", scope="read"),
        Route("GET", "/v1/models", manage.models, "Names of the models, KServe v1", scope="read"),
        *_versioned("POST", "/infer_stream", stream, "Run a model; each answer is an event of its own", scope="infer"),
        *endpoints.recording.routes(),
        *_versioned("POST", "/feedback", endpoints.feedback, "Say what became of answers", scope="infer"),
        Route("POST", "/v1/models/{model}:predict", predict, "Run a model, KServe v1", scope="infer"),
        _probe("/v1/models/{model}", manage.model_ready, "Whether a model is ready, KServe v1"),
        *_predictions(endpoints),
        _probe("/ping", manage.ping, "Whether every model is ready, TorchServe"),
    ]


def _predictions(endpoints: Endpoints) -> list[Route]:
    """TorchServe's, whose clients send with POST, or with PUT as curl does with a file."""
    predict = endpoints.hold(endpoints.prediction)
    whole, one = "Run a model on one body, TorchServe", "Run one version of a model on one body, TorchServe"
    return [
        Route(method, pattern, predict, summary, scope="infer", words=word_error)
        for pattern, summary in (("/predictions/{model}", whole), ("/predictions/{model}/{version}", one))
        for method in ("POST", "PUT")
    ]


def _versioned(
    method: str, tail: str, handler: Handler, summary: str, *, scope: str, decodes: bool = True
) -> list[Route]:
    model, version = f"/v2/models/{{model}}{tail}", f"/v2/models/{{model}}/versions/{{version}}{tail}"
    return [
        Route(method, model, handler, summary, decodes=decodes, scope=scope),
        Route(method, version, handler, f"{summary}, one version", decodes=decodes, scope=scope),
    ]


def _versioned_probe(tail: str, handler: Handler, summary: str) -> list[Route]:
    return [
        _probe(f"/v2/models/{{model}}{tail}", handler, summary),
        _probe(f"/v2/models/{{model}}/versions/{{version}}{tail}", handler, f"{summary}, one version"),
    ]


def _probe(pattern: str, handler: Handler, summary: str) -> Route:
    """What is asked by whoever looks after the server, and holds no key."""
    return Route("GET", pattern, handler, summary, body_limit=PROBE_BODY_BYTES, scope=OPEN)
