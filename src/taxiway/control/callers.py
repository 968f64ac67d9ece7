"""Who calls: the name of an API key, or of whoever says so where nobody is asked for one."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from taxiway.config.keys import Scope
from taxiway.core.errors import InvalidArgument
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
    """

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard

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
            caller = Caller(self._guard.check(_authorization(request), scope, service).name, proven=True)
        request.scope["caller"] = caller.name
        return caller

    def may_see(self, request: Request, service: str) -> bool:
        """Whether this caller, who may read, may read of that service too."""
        if self._guard is None:
            return True
        found = self._guard.check(_authorization(request), "any", None)
        return "read" in found.scopes and found.may_use(service)


def _authorization(request: Request) -> str | None:
    key = request.headers.get("x-api-key")
    return bearer(key) if key is not None else request.headers.get("authorization")


def _name(said: str) -> str:
    if len(said) > _MAX_CHARS or not said.isprintable():
        raise InvalidArgument(f"actor must be at most {_MAX_CHARS} printable characters", hint="send a shorter name")
    return said
