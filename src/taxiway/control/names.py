"""By which names callers may reach the control port: a page elsewhere must not use a browser to reach it.

A browser that was led to our address under a name of the page's own (DNS rebinding) says that name in Host, and a page
of another origin says its origin: both are refused. An address in Host is no name that anybody could have led astray.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from taxiway.core.errors import PermissionDenied

_HINT = "add the name to control.allowed_hosts if callers may use it"


class Names:
    """The names that are ours.

    Args:
        host: `control.host`.
        allowed: `control.allowed_hosts`.
    """

    def __init__(self, host: str, allowed: Iterable[str]) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in ("localhost", host.strip("[]"), *allowed))

    def check(self, host: str, origin: str | None) -> None:
        """Refuse a request that came by a name which is not ours, or from a page that is not ours.

        Args:
            host: the Host header, empty if there was none.
            origin: the Origin header; None if there was none, as of everything that is no browser.

        Raises:
            PermissionDenied: it is to be refused.
        """
        if not self._is_ours(_name_in(host)):
            raise PermissionDenied(f"Host {host!r} is no name of this server", hint=_HINT, host=host)
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise PermissionDenied(
                f"Origin {origin!r} is not this server's: a page elsewhere may not call it", hint=_HINT, origin=origin
            )

    def _is_ours(self, name: str) -> bool:
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _name_in(host: str) -> str:
    """Without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
