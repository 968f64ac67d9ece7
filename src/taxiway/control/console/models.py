"""/v1/models and /v1/playground: what is served, how it is configured, and one request by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Callers
from taxiway.control.console.asking import answer
from taxiway.control.console.frames import version_of
from taxiway.control.console.parts import Parts
from taxiway.control.console.shelf import Shelf
from taxiway.core.errors import InvalidArgument, MalformedJson, TaxiwayError, TooLarge, Unavailable
from taxiway.rollout.journal import Journal
from taxiway.server.channel import Channel, Gone

_ASK_S: Final = 10.0
_TRY_S: Final = 30.0
_MAX_KEPT: Final = 200
_MAX_TRY_BYTES: Final = 1 << 20
_KNOWN: Final = frozenset({"inputs", "parameters", "id", "outputs"})


class DataPlane:
    """What is asked of the processes that serve."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def all(self, verb: str, words: Mapping[str, Any]) -> list[Any]:
        """Every process' answer.

        Raises:
            Unavailable: none answers.
            TaxiwayError: an error of theirs.
        """
        told: list[Any] = await self._ask("fleet", {"verb": verb, "words": words, "lasting": None}, _ASK_S)
        return told

    async def one(self, verb: str, words: Mapping[str, Any], timeout_s: float) -> Any:  # noqa: ANN401 - plain data
        """The answer of any of them; raises as `all`."""
        return await self._ask("one", {"verb": verb, "words": words, "timeout_s": timeout_s}, timeout_s + 1)

    async def _ask(self, verb: str, words: Mapping[str, Any], timeout_s: float) -> Any:  # noqa: ANN401 - plain data
        try:
            return await self._channel.ask(verb, words, timeout_s)
        except (Gone, TimeoutError):
            raise Unavailable("the data plane does not answer", hint="the server's log tells what it does") from None


def model_routes(callers: Callers, plane: DataPlane, shelf: Shelf, journal: Journal, parts: Parts) -> list[BaseRoute]:
    """All of them."""
    routes = _ModelRoutes(callers, plane, shelf, lambda name: [parts.summary(one) for one in journal.rollouts(name)])
    return [
        Route("/v1/models", routes.list, methods=["GET"]),
        Route("/v1/models/{model}", routes.one, methods=["GET"]),
        Route("/v1/playground/{model}", routes.play, methods=["POST"]),
        Route("/v1/requests", routes.kept, methods=["GET"]),
    ]


class _ModelRoutes:
    def __init__(
        self, callers: Callers, plane: DataPlane, shelf: Shelf, rollouts: Callable[[str], list[dict[str, Any]]]
    ) -> None:
        self._callers = callers
        self._plane = plane
        self._shelf = shelf
        self._rollouts = rollouts

    async def list(self, request: Request) -> Response:
        """Every model that is served, or could be."""
        self._callers.check(request, "read", None)
        lines, stages = await asyncio.gather(self._plane.one("index", {}, _ASK_S), self._stages(None))
        models: dict[str, dict[str, Any]] = {}
        for line in lines:
            name = line["name"]
            known = models.setdefault(name, {"model": name, "versions": [], "state": line.get("state", "UNAVAILABLE")})
            if line.get("version"):
                known["versions"].append(version_of(line["version"]))
            if line.get("state") == "READY":
                known["state"] = "READY"
        told = [{**one, "stages": stages.get(name, {})} for name, one in sorted(models.items())]
        return answer({"models": told})

    async def one(self, request: Request) -> Response:
        """All that is known of one model."""
        model = request.path_params["model"]
        self._callers.check(request, "read", model)
        described, lines, stages, services = await asyncio.gather(
            self._plane.one("describe", {"model": model}, _ASK_S),
            self._plane.one("index", {}, _ASK_S),
            self._stages(model),
            asyncio.to_thread(self._rollouts, model),
        )
        pointing = stages.get(model, {})
        states = {line.get("version", ""): line for line in lines if line["name"] == model}
        versions = []
        for one in described:
            line = states.get(str(one["version"]), {})
            named = sorted(alias for alias, number in pointing.items() if number == one["version"])
            state = {"state": line.get("state", "UNAVAILABLE"), "reason": line.get("reason", "")}
            versions.append({**one, **state, "stages": named})
        return answer({"model": model, "versions": versions, "services": services[:20]})

    async def play(self, request: Request) -> Response:
        """One request by hand, as anybody's who may infer."""
        model = request.path_params["model"]
        self._callers.check(request, "infer", model)
        words = await _request(request)
        asked = {
            "model": model,
            "version": request.query_params.get("version") or None,
            "id": str(words.get("id", ""))[:128],
            "inputs": words.get("inputs"),
            "parameters": words.get("parameters"),
            "timeout_s": _TRY_S,
        }
        return answer(await self._plane.one("try", asked, _TRY_S + 1))

    async def kept(self, request: Request) -> Response:
        """The last slow and failed requests, newest first."""
        model, kind = request.query_params.get("model") or None, request.query_params.get("kind") or None
        if kind not in (None, "slow", "failed"):
            raise InvalidArgument(f"kind = {kind[:40]!r}: is not known", hint="slow or failed")
        self._callers.check(request, "read", model)
        told = await self._plane.all("kept", {"model": model})
        found = [{**one, "worker": worker} for worker, kept in enumerate(told) for one in kept]
        wanted = [one for one in found if kind in (None, one["kind"])]
        newest = sorted(wanted, key=itemgetter("at_ms"), reverse=True)
        return answer({"kept": True, "requests": newest[:_MAX_KEPT]})

    async def _stages(self, model: str | None) -> Mapping[str, Mapping[str, int]]:
        """Aliases by model; none where the registry is not there."""
        try:
            return await asyncio.to_thread(self._shelf.aliases, model)
        except TaxiwayError:
            return {}


async def _request(request: Request) -> dict[str, Any]:
    body = await request.body()
    if len(body) > _MAX_TRY_BYTES:
        raise TooLarge(f"the body is over {_MAX_TRY_BYTES} bytes", hint="use a client", limit=_MAX_TRY_BYTES)
    try:
        words = json.loads(body)
    except ValueError as problem:
        raise MalformedJson(f"the body is not JSON: {problem}", hint="send a v2 request") from None
    if not isinstance(words, dict) or not isinstance(words.get("parameters") or {}, dict):
        raise InvalidArgument("the body must be a v2 request", hint='as {"inputs": [...]}')
    unknown = sorted(set(words) - _KNOWN)
    if unknown:
        raise InvalidArgument(f"{unknown[0]!r} is not known here", hint=f"known are {', '.join(sorted(_KNOWN))}")
    return words
