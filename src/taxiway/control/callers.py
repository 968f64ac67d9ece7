"""Who calls: the name of an API key, or of whoever says so where nobody is asked for one."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from taxiway.config.keys import SCOPES, Scope
from taxiway.control.sessions import Sessions
from taxiway.core.errors import InvalidArgument
from taxiway.server.guard import Caller as Known
from taxiway.server.guard import Guard, bearer

ANONYMOUS = "anonymous"
_MAX_CHARS = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose name a change is recorded under; `proven` says that a key proved it."""

    name: str
    proven: bool

    def __str__(self) -> str:
        return self.name if self.proven else f"{self.name} (unproven)"


class Callers:
    """Knows who calls, and whether they may.

    Args:
        guard: checks keys; None: nobody is asked.
        sessions: of browsers, which have shown a key before; None: there are none.
    """

    def __init__(self, guard: Guard | None, sessions: Sessions | None = None) -> None:
        self._guard = guard
        self._sessions = sessions

    @property
    def asks(self) -> bool:
        """Whether callers need a key."""
        return self._guard is not None

    def check(self, request: Request, scope: Scope, service: str | None, said: str = "") -> Caller:
        """Who calls, if they may do this to that service (None: to the whole server).

        Args:
            request: the call.
            scope: what is asked for.
            service: see above.
            said: as whom they call where no key proves it.

        Raises:
            Unauthenticated, PermissionDenied: they may not.
            InvalidArgument: `said` is no name.
        """
        if self._guard is None:
            caller = Caller(_name(said or ANONYMOUS), proven=False)
        else:
            caller = Caller(self._known(self._guard, request, scope, service).name, proven=True)
        request.scope["caller"] = caller.name
        return caller

    def may_see(self, request: Request, service: str) -> bool:
        """Whether this caller, who may read, may read of that service too."""
        if self._guard is None:
            return True
        found = self._known(self._guard, request, "any", None)
        return "read" in found.scopes and found.may_use(service)

    def who(self, request: Request) -> tuple[str, tuple[Scope, ...]]:
        """Who calls, and what they may do at all.

        Raises:
            Unauthenticated: that is not known.
        """
        return _reach(None if self._guard is None else self._known(self._guard, request, "any", None))

    def holder(self, key: str) -> tuple[str, tuple[Scope, ...]]:
        """Whose key it is, and what they may do.

        Raises:
            Unauthenticated: it is nobody's.
        """
        return _reach(None if self._guard is None else self._guard.check(bearer(key), "any", None))

    def _known(self, guard: Guard, request: Request, scope: str, service: str | None) -> Known:
        authorization = _authorization(request)
        if authorization is None and self._sessions is not None:
            digest = self._sessions.digest(request)
            if digest is not None:
                return guard.check_digest(digest, scope, service)
        return guard.check(authorization, scope, service)


def _reach(known: Known | None) -> tuple[str, tuple[Scope, ...]]:
    if known is None:
        return ANONYMOUS, SCOPES
    return known.name, tuple(scope for scope in SCOPES if scope in known.scopes)


def _authorization(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    return bearer(key) if key is not None else request.headers.get("authorization")


def _name(said: str) -> str:
    if len(said) > _MAX_CHARS or not said.isprintable():
        raise InvalidArgument(f"actor must be at most {_MAX_CHARS} printable characters", hint="send a shorter name")
    return said
