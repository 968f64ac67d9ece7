"""Health, metadata, configuration, statistics and the repository over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from taxiway.core.errors import MalformedRequest, ModelNotFound, Unsupported
from taxiway.server.administration import Administration
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.load_requests import read_load, read_unload
from taxiway.server.wire.status import Profile


class ManagementEndpoints:
    """Everything about the server and its models that is not inference."""

    def __init__(self, administration: Administration, profile: Profile) -> None:
        self._administration = administration
        self._profile = profile
        self._server = orjson.dumps(administration.server_metadata())

    # --- server ---------------------------------------------------------------------------------------

    def server_metadata(self, exchange: Exchange) -> None:
        """GET /v2."""
        exchange.reply(200, self._server)

    def live(self, exchange: Exchange) -> None:
        """GET /v2/health/live: this process answers."""
        self._health(exchange, "live", holds=True)

    def ready(self, exchange: Exchange) -> None:
        """GET /v2/health/ready: every model is loaded and warm, and the server is not draining."""
        self._health(exchange, "ready", holds=self._administration.is_ready())

    def model_ready(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]/ready."""
        name, version = _named(exchange)
        try:
            holds = self._administration.is_model_ready(name, version)
        except ModelNotFound:
            if self._profile.health_bodies:
                raise
            holds = False
        if not self._profile.health_bodies and not holds:
            exchange.reply(self._profile.not_ready_status, b'{"error":"Model version not ready"}', codable=False)
        elif not self._profile.health_bodies:
            exchange.reply(200, b"", "text/plain")
        else:
            status = 200 if holds else self._profile.not_ready_status
            exchange.reply(status, orjson.dumps({"name": name, "ready": holds}))

    def _health(self, exchange: Exchange, word: str, *, holds: bool) -> None:
        status = 200 if holds else self._profile.not_ready_status
        if self._profile.health_bodies:
            exchange.reply(status, b'{"%b":%b}' % (word.encode(), b"true" if holds else b"false"))
        else:
            exchange.reply(status, b"", "text/plain")

    def ping(self, exchange: Exchange) -> None:
        """GET /ping, TorchServe's word for the same."""
        ready = self._administration.is_ready()
        exchange.reply(200 if ready else 503, b'{"status":"Healthy"}' if ready else b'{"status":"Unhealthy"}')

    # --- models ---------------------------------------------------------------------------------------

    def models(self, exchange: Exchange) -> None:
        """GET /v2/models: the names that are served (KServe's addition to the protocol)."""
        exchange.reply(200, orjson.dumps({"models": self._administration.model_names()}))

    def model_metadata(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]."""
        exchange.reply(200, orjson.dumps(self._administration.model_metadata(*_named(exchange))))

    def model_config(self, exchange: Exchange) -> None:
        """GET /v2/models/{model}[/versions/{version}]/config: Triton's ModelConfig as JSON."""
        exchange.reply(200, orjson.dumps(self._administration.model_config(*_named(exchange))))

    def statistics(self, exchange: Exchange) -> None:
        """GET /v2/models/stats and /v2/models/{model}[/versions/{version}]/stats."""
        params = exchange.head.match.params
        exchange.reply_with(self._statistics(params.get("model"), params.get("version")))

    async def _statistics(self, name: str | None, version: str | None) -> bytes:
        return orjson.dumps({"model_stats": await self._administration.statistics(name, version)})

    # --- repository -----------------------------------------------------------------------------------

    def index(self, exchange: Exchange) -> None:
        """POST /v2/repository/index: every version and its state; with {"ready": true} only those that are ready."""
        exchange.reply_with(self._index(only_ready=_asks_ready(exchange)))

    async def _index(self, *, only_ready: bool) -> bytes:
        return orjson.dumps(await self._administration.repository_index(only_ready=only_ready))

    def load(self, exchange: Exchange) -> None:
        """POST /v2/repository/models/{model}/load: answered when the model is ready."""
        _refuse_repository(exchange)
        config, files = read_load(exchange.body)
        exchange.reply_with(self._load(exchange.head.match.params["model"], config, files))

    async def _load(self, name: str, config: str | None, files: Mapping[str, bytes]) -> bytes:
        await self._administration.load_model(name, config=config, files=files)
        return b""

    def unload(self, exchange: Exchange) -> None:
        """POST /v2/repository/models/{model}/unload: answered when the model has left the routes."""
        _refuse_repository(exchange)
        dependents = read_unload(exchange.body)
        exchange.reply_with(self._unload(exchange.head.match.params["model"], dependents=dependents))

    async def _unload(self, name: str, *, dependents: bool) -> bytes:
        await self._administration.unload_model(name, dependents=dependents)
        return b""


def _named(exchange: Exchange) -> tuple[str, str | None]:
    """Model and version, as the path names them."""
    params = exchange.head.match.params
    return params["model"], params.get("version")


def _asks_ready(exchange: Exchange) -> bool:
    if not len(exchange.body):
        return False
    document = parse_json(exchange.body)
    ready = document.get("ready", False) if isinstance(document, dict) else False
    if ready.__class__ is not bool:
        raise MalformedRequest(f"'ready' is {ready!r}; it must be true or false")
    return bool(ready)


def _refuse_repository(exchange: Exchange) -> None:
    if "repository" in exchange.head.match.params:
        raise Unsupported(
            "'repository_name' specification is not supported",
            hint="POST /v2/repository/models/{model}/load; a model's name is enough",
        )
