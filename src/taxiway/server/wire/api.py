"""Every route of the front door, and of the metrics port."""

from __future__ import annotations

from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.management import ManagementEndpoints
from taxiway.server.wire.oip import InferEndpoint
from taxiway.server.wire.routes import Handler, Route, RouteTable

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def inference_routes(infer: InferEndpoint, manage: ManagementEndpoints) -> list[Route]:
    """The Open Inference Protocol v2 and the extensions that are served."""
    return [
        Route("GET", "/v2", manage.server_metadata, "Name, version and extensions of the server"),
        Route("GET", "/v2/", manage.server_metadata, "Same as /v2"),
        Route("GET", "/v2/health/live", manage.live, "Whether the process answers"),
        Route("GET", "/v2/health/ready", manage.ready, "Whether every model is ready"),
        Route("GET", "/v2/models", manage.models, "Names of the models"),
        Route("GET", "/v2/models/stats", manage.statistics, "Statistics of every model"),
        *_versioned("GET", "", manage.model_metadata, "Inputs, outputs and versions of a model"),
        *_versioned("GET", "/ready", manage.model_ready, "Whether a model is ready"),
        *_versioned("GET", "/config", manage.model_config, "Configuration of a model"),
        *_versioned("GET", "/stats", manage.statistics, "Statistics of a model"),
        *_versioned("POST", "/infer", infer, "Run a model"),
        Route("POST", "/v2/repository/index", manage.index, "Versions and their states"),
        Route("POST", "/v2/repository/{repository}/index", manage.index, "Same as /v2/repository/index"),
        Route("POST", "/v2/repository/models/{model}/load", manage.refuse_load, "Not while models load at start only"),
        Route("POST", "/v2/repository/models/{model}/unload", manage.refuse_load, "Likewise"),
    ]


def metrics_routes(render: Handler) -> RouteTable:
    """What the metrics port serves."""
    return RouteTable([Route("GET", "/metrics", render, "Metrics in Prometheus text format", body_limit=0)])


def reply_metrics(exchange: Exchange, text: bytes) -> None:
    """Answer with rendered metrics."""
    exchange.reply(200, text, _METRICS_TYPE)


def _versioned(method: str, tail: str, handler: Handler, summary: str) -> list[Route]:
    return [
        Route(method, f"/v2/models/{{model}}{tail}", handler, summary),
        Route(method, f"/v2/models/{{model}}/versions/{{version}}{tail}", handler, f"{summary}, one version"),
    ]
