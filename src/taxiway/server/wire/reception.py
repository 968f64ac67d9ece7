"""How callers are received: who may call, over what line, and whether each request is logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from taxiway.config.settings import LogSettings, Settings
from taxiway.core.clock import Clock
from taxiway.server.access import AccessLog
from taxiway.server.guard import Guard
from taxiway.server.reloading import Reloadable
from taxiway.server.tls import TlsFiles
from taxiway.server.wire.guarded import GuardedHeads
from taxiway.server.wire.heads import HeadReader
from taxiway.server.wire.http1 import HttpConnection
from taxiway.server.wire.logged import LoggedConnection
from taxiway.server.wire.routes import RouteTable
from taxiway.telemetry.render import Point

if TYPE_CHECKING:
    from taxiway.server.wire.front import HttpFront


@dataclass(frozen=True, slots=True)
class Reception:
    """Shared by all ports of a process.

    Attributes:
        guard: who may call; None: everybody.
        tls: over what line; None: in clear.
        access: where each request is logged; None: nowhere.
    """

    guard: Guard | None = None
    tls: TlsFiles | None = None
    access: AccessLog | None = None

    @classmethod
    def of(cls, settings: Settings, clock: Clock) -> Reception:
        """What the settings ask for.

        Raises:
            InvalidConfig: the keys file, or a file of TLS, cannot be read or breaks a rule.
        """
        keys_file = settings.auth.keys_file
        guard = Guard(Path(keys_file), clock) if keys_file else None
        tls = TlsFiles(settings.tls) if settings.tls.certificate else None
        return cls(guard, tls, _access_log(settings.log))

    def heads(self, routes: RouteTable, max_headers: int) -> HeadReader:
        """The reader of heads that this takes."""
        if self.guard is None:
            return HeadReader(routes, max_headers)
        return GuardedHeads(routes, max_headers, self.guard)

    def connection(self, front: HttpFront) -> Callable[[], HttpConnection]:
        """What makes a connection of `front`."""
        if self.access is None:
            return partial(HttpConnection, front)
        return partial(LoggedConnection, front, self.access)

    @property
    def scheme(self) -> str:
        """Of the addresses at which clients reach the ports."""
        return "http" if self.tls is None else "https"

    def reloadable(self) -> list[Reloadable]:
        """What is to be read again when it changes."""
        return [source for source in (self.guard, self.tls) if source is not None]

    def points(self) -> Iterator[Point]:
        """Every metric series of it."""
        if self.guard is not None:
            yield from self.guard.points()
        if self.tls is not None:
            yield from self.tls.points()


def _access_log(log: LogSettings) -> AccessLog | None:
    return AccessLog(log.access_share, log.slow_ms) if log.access else None
