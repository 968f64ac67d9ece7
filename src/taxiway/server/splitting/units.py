"""On whose behalf a request comes: the first of the declared sources that it has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from taxiway.core.traffic import UnitSource

GetHeader = Callable[[bytes], bytes | None]
"""A header's value, by its name in lower case."""
_MAX_UNIT_BYTES = 256
"""A longer name of a unit stands for itself by its hash: it is only hashed anyway."""
_REQUEST_ID = b"x-request-id"


class UnitChain:
    """The declared sources, in order."""

    def __init__(self, sources: Sequence[UnitSource]) -> None:
        self._sources = [(source.kind, source.name.lower().encode()) for source in sources]

    def unit(self, header: GetHeader, caller: str) -> bytes | None:
        """The unit of a request; None if it has none of the sources.

        Args:
            header: its headers.
            caller: the name of the key that it was sent with; empty if there was none.
        """
        for kind, name in self._sources:
            found: bytes | None
            if kind == "header":
                found = header(name)
            elif kind == "api-key":
                found = caller.encode()
            elif kind == "cookie":
                found = _cookie(header(b"cookie"), name)
            else:
                found = header(_REQUEST_ID)
            if found:
                return found if len(found) <= _MAX_UNIT_BYTES else hashlib.sha256(found).digest()
        return None


def _cookie(text: bytes | None, name: bytes) -> bytes | None:
    """The value of a cookie; names of cookies keep their case, and the declared one is in lower case."""
    for part in (text or b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key.lower() == name:
            return value
    return None
