"""The routes of rollouts: /v1/rollouts and /v1/services. Parses, checks who calls, and hands on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taxiway.control.callers import Caller, Callers
from taxiway.core.errors import InvalidArgument, MalformedJson
from taxiway.rollout.commands import COMMANDS, Command
from taxiway.rollout.journal import Journal
from taxiway.rollout.machine import replay, step
from taxiway.rollout.nouns import TERMINAL, Rollout
from taxiway.rollout.office import RolloutOffice, checked_key

_KNOWN_START = {"service", "plan", "force", "reason", "actor", "idempotency_key"}
_KNOWN = {"reason", "actor", "idempotency_key", "expect_generation"}
Endpoint = Callable[[Request], Awaitable[Response]]


class RolloutRoutes:
    """Asked by the command line, by scripts and by the console alike."""

    def __init__(self, office: RolloutOffice, journal: Journal, callers: Callers) -> None:
        self._office = office
        self._journal = journal
        self._callers = callers

    def routes(self) -> list[BaseRoute]:
        """All of them."""
        commands = [
            Route(f"/v1/rollouts/{{id}}/{word}", self._command(kind), methods=["POST"])
            for word, kind in COMMANDS.items()
        ]
        return [
            Route("/v1/rollouts", self._start, methods=["POST"]),
            Route("/v1/rollouts", self._list, methods=["GET"]),
            Route("/v1/rollouts/{id}", self._one, methods=["GET"]),
            Route("/v1/rollouts/{id}/history", self._history, methods=["GET"]),
            Route("/v1/rollouts/{id}/replay", self._replay, methods=["GET"]),
            Route("/v1/rollouts/{id}/verdict", self._verdict, methods=["GET"]),
            *commands,
            Route("/v1/services/{service}/undo", self._undo, methods=["POST"]),
        ]

    async def _start(self, request: Request) -> Response:
        words = await _words(request, _KNOWN_START)
        service = _text(words, "service")
        caller = self._may_change(request, service, words)
        plan = words.get("plan", {})
        if not isinstance(plan, dict):
            raise InvalidArgument("plan must be an object", hint='as {"to": "7", "strategy": "canary"}')
        rollout = await self._office.start(
            service,
            plan,
            actor=str(caller),
            reason=str(words.get("reason") or ""),
            force=bool(words.get("force")),
            key=checked_key(str(words.get("idempotency_key", ""))),
        )
        return _answer(await self._office.status(rollout))

    async def _list(self, request: Request) -> Response:
        self._callers.check(request, "read", None)
        service = request.query_params.get("service") or None
        active = True if request.query_params.get("active") == "true" else None
        found = await asyncio.to_thread(self._journal.rollouts, service, active=active)
        seen = [one for one in found if self._callers.may_see(request, one.service)]
        return _answer(
            {"rollouts": [{**msgspec.to_builtins(one), "active": one.phase not in TERMINAL} for one in seen]}
        )

    async def _one(self, request: Request) -> Response:
        return _answer(await self._office.status(await self._find(request)))

    async def _history(self, request: Request) -> Response:
        rollout = await self._find(request)
        events = await asyncio.to_thread(self._journal.events, rollout.id, limit=10_000)
        states = _states([(event.payload, event.at_ns) for event in events])
        told = [
            {
                "generation": event.generation,
                "at_ns": event.at_ns,
                "kind": event.kind,
                "actor": event.actor,
                "phase": state.phase.value,
                "reason": state.reason,
                "evidence": event.facts.get("evidence", ""),
                "hash": event.hash,
            }
            for event, state in zip(events, states, strict=True)
        ]
        return _answer({"rollout": rollout.id, "events": told})

    async def _replay(self, request: Request) -> Response:
        rollout = await self._find(request)
        return _answer(await asyncio.to_thread(self._office.replay, rollout.id))

    async def _verdict(self, request: Request) -> Response:
        """For tools that ask in a loop, as Argo Rollouts' `web` metric: `jsonPath: "{$.verdict}"`."""
        status = await self._office.status(await self._find(request))
        verdict = status["verdict"]
        told = {"verdict": "inconclusive", "sentence": "nothing was judged yet"}
        if verdict is not None:
            told = {"verdict": verdict["outcome"], "sentence": verdict["sentence"]}
        return _answer({**told, "phase": status["rollout"]["phase"], "rollout": status["rollout"]["id"]})

    def _command(self, kind: type[Command]) -> Endpoint:
        own = {field.name for field in msgspec.structs.fields(kind)}

        async def take(request: Request) -> Response:
            rollout = await asyncio.to_thread(self._journal.rollout, request.path_params["id"])
            words = await _words(request, _KNOWN | own)
            caller = self._may_change(request, rollout.service, words)
            said = {name: words[name] for name in own if words.get(name) is not None}
            try:
                command = msgspec.convert({**said, "type": kind.__name__}, kind)
            except msgspec.ValidationError as problem:
                raise InvalidArgument(f"the command is not understood: {problem}", hint="docs/rollouts.md") from None
            after = await self._office.command(
                rollout.id,
                command,
                actor=str(caller),
                key=checked_key(str(words.get("idempotency_key", ""))),
                expect_generation=_generation(words),
            )
            return _answer(await self._office.status(after))

        return take

    async def _undo(self, request: Request) -> Response:
        service = request.path_params["service"]
        words = await _words(request, _KNOWN | {"to"})
        caller = self._may_change(request, service, words)
        to = words.get("to")
        if to is not None and not (isinstance(to, int) and to > 0):
            raise InvalidArgument(f"to = {to!r}: must be the number of a version", hint="as 6")
        after = await self._office.undo(
            service,
            to,
            actor=str(caller),
            reason=str(words.get("reason") or ""),
            key=checked_key(str(words.get("idempotency_key", ""))),
            expect_generation=_generation(words),
        )
        return _answer(await self._office.status(after))

    async def _find(self, request: Request) -> Rollout:
        self._callers.check(request, "read", None)
        rollout = await asyncio.to_thread(self._journal.rollout, request.path_params["id"])
        self._callers.check(request, "read", rollout.service)
        return rollout

    def _may_change(self, request: Request, service: str, words: Mapping[str, Any]) -> Caller:
        return self._callers.check(request, "rollout", service, str(words.get("actor") or ""))


def _states(happened: list[tuple[Mapping[str, Any], int]]) -> list[Rollout]:
    """After each event."""
    from taxiway.rollout.events import Event  # noqa: PLC0415 - a union, for this question only

    state = replay(happened[:1])
    states = [state]
    for payload, at_ns in happened[1:]:
        made = step(state, msgspec.convert(payload["event"], Event), at_ns, payload["actor"])
        state = state if made is None else made.after
        states.append(state)
    return states


async def _words(request: Request, known: set[str]) -> dict[str, Any]:
    body = await request.body()
    try:
        words = json.loads(body or b"{}")
    except ValueError as problem:
        raise MalformedJson(f"the body is not JSON: {problem}", hint="send an object") from None
    if not isinstance(words, dict):
        raise InvalidArgument("the body must be a JSON object", hint='as {"reason": "..."}')
    unknown = sorted(set(words) - known)
    if unknown:
        raise InvalidArgument(f"{unknown[0]!r} is not known here", hint=f"known are {', '.join(sorted(known))}")
    return words


def _text(words: Mapping[str, Any], name: str) -> str:
    value = words.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"{name} is missing, or no text", hint=f"give {name}")
    return value


def _generation(words: Mapping[str, Any]) -> int | None:
    value = words.get("expect_generation")
    if value is not None and not isinstance(value, int):
        raise InvalidArgument(f"expect_generation = {value!r}: must be a number", hint="as you saw it")
    return value


def _answer(told: Mapping[str, Any]) -> Response:
    return Response(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS), media_type="application/json")
