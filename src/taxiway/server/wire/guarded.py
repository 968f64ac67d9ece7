"""Heads that the guard has let pass: asked once for the same bytes, as long as the same keys are in force."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NoReturn

from taxiway.core.errors import TaxiwayError
from taxiway.server.guard import ANY, Guard, bearer
from taxiway.server.wire.heads import Head, HeadReader
from taxiway.server.wire.routes import OPEN, Match, RouteTable

if TYPE_CHECKING:
    from taxiway.server.wire.exchange import Exchange


class GuardedHeads(HeadReader):
    """As `HeadReader`; but who may not do what a head asks gets one that answers so, whatever it says of a body.

    Only heads that passed are kept: guessing keys displaces nobody's head.
    """

    def __init__(self, routes: RouteTable, max_headers: int, guard: Guard) -> None:
        super().__init__(routes, max_headers)
        self._guard = guard

    def read(self, raw: bytes) -> Head:
        """The head these bytes say, as `HeadReader.read`; `refusal` is set if its caller may not ask this."""
        head = self._kept.get(raw)
        keyring = self._guard.keyring
        if head is not None and head.passed is keyring:
            return head
        if head is None:
            head = self._parse(raw)
        try:
            head.caller = self._caller_of(head)
        except TaxiwayError as refusal:
            return _refused(head, refusal)
        head.passed = keyring
        self._keep(raw, head)
        return head

    def _caller_of(self, head: Head) -> str:
        """Its name; nobody's for what is open to all. A path that leads nowhere asks for a key, and no more."""
        match = head.match
        scope = ANY if match.route is None else match.route.scope
        if scope == OPEN:
            return ""
        key = head.headers.get(b"x-api-key")
        if key is not None:
            authorization = bearer(key.decode("latin-1"))
        else:
            authorization = head.headers.get(b"authorization", b"").decode("latin-1")
        return self._guard.check(authorization, scope, match.params.get("model")).name


def _refused(head: Head, refusal: TaxiwayError) -> Head:
    """A head as this one that leads to its refusal."""

    def refuse(_exchange: Exchange) -> NoReturn:
        raise refusal

    refused = copy.copy(head)
    refused.match = Match(refuse, head.match.params, head.match.route, unkept=True, decodes=False)
    refused.refusal = refusal
    return refused
