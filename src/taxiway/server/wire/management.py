"""Health, metadata, configuration, statistics and the repository index."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orjson

from taxiway.core.errors import FailedPrecondition, MalformedRequest, ModelNotFound, StatisticsNotFound, Unavailable
from taxiway.core.tensors import TensorSpec
from taxiway.server.models.machine import ModelState
from taxiway.server.models.served import ServedModel
from taxiway.server.routing import Service, Snapshot, version_number
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.status import Profile

EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""The protocol extensions that work here, by Triton's names."""


class ManagementEndpoints:
    """Everything about the server and its models that is not inference.

    Args:
        ready: whether the server as a whole may be sent requests.
    """

    def __init__(
        self, routing: Callable[[], Snapshot], profile: Profile, ready: Callable[[], bool], version: str
    ) -> None:
        self._routing = routing
        self._profile = profile
        self._ready = ready
        self._server = orjson.dumps({"name": "taxiway", "version": version, "extensions": EXTENSIONS})

    # --- server ---------------------------------------------------------------------------------------

    def server_metadata(self, exchange: Exchange) -> None:
        """GET /v2."""
        exchange.reply(200, self._server)

    def live(self, exchange: Exchange) -> None:
        """GET /v2/health/live: this process answers."""
        self._health(exchange, "live", holds=True)

    def ready(self, exchange: Exchange) -> None:
        """GET /v2/health/ready: every model is loaded and warm, and the server is not draining."""
        self._health(exchange, "ready", holds=self._ready())

    def model_ready(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]/ready."""
        params = exchange.head.match.params
        try:
            served = self._served(exchange)
            holds = self._ready() and served.life.now.state is ModelState.READY
        except ModelNotFound:
            if self._profile.health_bodies:
                raise
            holds = False
        except Unavailable:
            holds = False
        if not self._profile.health_bodies and not holds:
            exchange.reply(self._profile.not_ready_status, b'{"error":"Model version not ready"}', codable=False)
        elif not self._profile.health_bodies:
            exchange.reply(200, b"", "text/plain")
        else:
            status = 200 if holds else self._profile.not_ready_status
            exchange.reply(status, orjson.dumps({"name": params["model"], "ready": holds}))

    def _health(self, exchange: Exchange, word: str, *, holds: bool) -> None:
        status = 200 if holds else self._profile.not_ready_status
        if self._profile.health_bodies:
            exchange.reply(status, b'{"%b":%b}' % (word.encode(), b"true" if holds else b"false"))
        else:
            exchange.reply(status, b"", "text/plain")

    # --- models ---------------------------------------------------------------------------------------

    def models(self, exchange: Exchange) -> None:
        """GET /v2/models: the names that are served (KServe's addition to the protocol)."""
        exchange.reply(200, orjson.dumps({"models": sorted(self._routing().services)}))

    def model_metadata(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]."""
        served = self._served(exchange)
        params = exchange.head.match.params
        versions = [served.version] if "version" in params else sorted(self._routing().services[served.name].versions)
        spec = served.spec
        exchange.reply(
            200,
            orjson.dumps(
                {
                    "name": spec.name,
                    "versions": [str(version) for version in versions],
                    "platform": spec.platform or spec.backend,
                    "inputs": [_tensor(tensor, batches=served.batches) for tensor in spec.inputs],
                    "outputs": [_tensor(tensor, batches=served.batches) for tensor in spec.outputs],
                }
            ),
        )

    def model_config(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]/config: Triton's ModelConfig as JSON."""
        exchange.reply(200, orjson.dumps(self._served(exchange).config))

    def statistics(self, exchange: Exchange) -> None:
        """GET /v2/models/stats and /v2/models/{model}[/versions/{version}]/stats."""
        entries = [served.statistics.to_json() for served in self._asked_versions(exchange)]
        exchange.reply(200, orjson.dumps({"model_stats": entries}))

    def _asked_versions(self, exchange: Exchange) -> Iterable[ServedModel]:
        params = exchange.head.match.params
        services = self._routing().services
        name = params.get("model")
        if name is None:
            return [served for key in sorted(services) for served in _by_version(services[key])]
        number = version_number(params["version"]) if "version" in params else None
        service = services.get(name)
        if service is None:
            raise StatisticsNotFound(f"requested model '{name}' is not available", model=name)
        if number is None:
            return _by_version(service)
        served = service.versions.get(number)
        if served is None:
            raise StatisticsNotFound(f"requested model version is not available for model '{name}'", model=name)
        return [served]

    def _served(self, exchange: Exchange) -> ServedModel:
        params = exchange.head.match.params
        return self._routing().find(params["model"], params.get("version"))

    # --- repository -----------------------------------------------------------------------------------

    def index(self, exchange: Exchange) -> None:
        """POST /v2/repository/index: every version and its state; with {"ready": true} only those that are ready."""
        only_ready = _asks_ready(exchange)
        entries = [
            {"name": served.name, "version": str(served.version), "state": _triton_state(served)}
            for service in sorted(self._routing().services.values(), key=lambda service: service.name)
            for served in _by_version(service)
            if not only_ready or served.life.now.state is ModelState.READY
        ]
        exchange.reply(200, orjson.dumps(entries))

    def refuse_load(self, exchange: Exchange) -> None:
        """POST /v2/repository/models/{model}/load and /unload: models are loaded at start only."""
        raise FailedPrecondition(
            "explicit model load / unload is not allowed: models are loaded when the server starts",
            hint="restart `taxiway serve` with the paths to serve",
            model=exchange.head.match.params["model"],
        )


def _by_version(service: Service) -> list[ServedModel]:
    return [service.versions[version] for version in sorted(service.versions)]


def _tensor(spec: TensorSpec, *, batches: bool) -> dict[str, Any]:
    shape = [-1, *spec.shape] if batches else list(spec.shape)
    return {"name": spec.name, "datatype": spec.datatype.wire_name, "shape": shape}


def _asks_ready(exchange: Exchange) -> bool:
    if not len(exchange.body):
        return False
    document = parse_json(exchange.body)
    ready = document.get("ready", False) if isinstance(document, dict) else False
    if ready.__class__ is not bool:
        raise MalformedRequest(f"'ready' is {ready!r}; it must be true or false")
    return bool(ready)


def _triton_state(served: ServedModel) -> str:
    states = {
        ModelState.LOADING: "LOADING",
        ModelState.READY: "READY",
        ModelState.DRAINING: "UNLOADING",
        ModelState.GONE: "UNAVAILABLE",
        ModelState.FAILED: "UNAVAILABLE",
    }
    return states[served.life.now.state]
