"""Which endpoint a method and a path lead to. Paths are matched raw, as Triton does: nothing is percent-decoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxiway.core.errors import MethodNotAllowed, RouteNotFound, TaxiwayError

if TYPE_CHECKING:
    from taxiway.server.wire.exchange import Exchange

Handler = Callable[["Exchange"], None]
Words = Callable[[TaxiwayError, int], tuple[int, bytes]]
"""How a protocol of its own tells errors: of an error and the status it has elsewhere, its status and JSON body."""
OPEN = "open"
"""The scope of what everybody may ask, with or without a key."""
PROBE_BODY_BYTES = 4096
"""What everybody may ask needs no body; whoever sends one all the same gets no more of the server's memory."""


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the front door's table. `pattern` writes parameters as `{model}`; `{version}` is digits.

    `scope` is what a caller's key must have where keys are asked for: one of `config.keys.SCOPES`, `any` or `open`. A
    route that does not say gets the strictest. `words` tells its errors; None: the server's profile does.
    """

    method: str
    pattern: str
    handler: Handler
    summary: str
    body_limit: int | None = None
    decodes: bool = True
    """Whether a coded body is decoded before the handler sees it."""
    scope: str = "admin"
    words: Words | None = None


@dataclass(slots=True, eq=False)
class Match:
    """A route that fits, with its parameters. `unkept` matches are not worth remembering (nothing was found).

    `memo` is where the route's endpoint keeps what this path led to last, and the routing snapshot it was true for.
    """

    handler: Handler
    params: Mapping[str, str]
    route: Route | None = None
    unkept: bool = False
    decodes: bool = True
    memo: tuple[object, Any] | None = None


_PARAMETER = re.compile(r"\\\{(\w+)\\\}")


class RouteTable:
    """An ordered table; the first pattern that fits wins. A path that fits with no method of its own gets 405."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._compiled = [(_compile(route.pattern), route) for route in routes]

    def find(self, method: bytes, path: str) -> Match:
        """The match for this request; one that answers 404 or 405 if there is none."""
        allowed: list[str] = []
        for pattern, route in self._compiled:
            found = pattern.fullmatch(path)
            if found is None:
                continue
            if route.method.encode() == method:
                return Match(route.handler, found.groupdict(), route, decodes=route.decodes)
            if route.method not in allowed:
                allowed.append(route.method)
        return Match(_refusal(path, method, allowed), {}, unkept=True)


def _refusal(path: str, method: bytes, allowed: list[str]) -> Handler:
    def refuse(exchange: Exchange) -> None:
        if allowed:
            error: Any = MethodNotAllowed(
                "Method Not Allowed",
                hint=f"{path[:200]} takes {', '.join(allowed)}, not {method.decode('latin-1')[:20]}",
                allow=", ".join(allowed),
            )
            exchange.reply_error(error, (("Allow", ", ".join(allowed)),))
        else:
            exchange.reply_error(RouteNotFound("Not Found", hint="GET /v2/openapi.json lists every route"))

    return refuse


def _compile(pattern: str) -> re.Pattern[str]:
    def group(found: re.Match[str]) -> str:
        name = found.group(1)
        return f"(?P<{name}>[0-9]+)" if name == "version" else f"(?P<{name}>[^/]+)"

    return re.compile(_PARAMETER.sub(group, re.escape(pattern)))
