"""Says no early and cheaply: counts what the whole server holds, against its limits."""

from __future__ import annotations

from taxiway.core.errors import Overloaded, Unavailable


class Admission:
    """The server's own capacity: requests in flight and bytes of bodies and unread answers held.

    Args:
        max_requests: requests being received, queued or run at once (`limits.max_requests`).
        max_bytes: bytes of bodies held at once (`limits.max_buffered_bytes`).
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.refused = 0
        self.draining = False

    def enter(self) -> None:
        """Count one request in.

        Raises:
            Overloaded: as many are in flight as are allowed. Nothing was counted.
            Unavailable: the server is draining.
        """
        if self.requests >= self.max_requests or self.draining or self.bytes > self.max_bytes:
            self._refuse()
        self.requests += 1

    def is_open(self) -> bool:
        """Whether `enter` would let one more in."""
        return self.requests < self.max_requests and not self.draining and self.bytes <= self.max_bytes

    def leave(self) -> None:
        """One request was answered or abandoned."""
        self.requests -= 1

    def check_open(self) -> None:
        """Refuse before a body is read what would be refused after.

        Raises:
            Overloaded, Unavailable: as `enter`.
        """
        if self.requests >= self.max_requests or self.draining or self.bytes > self.max_bytes:
            self._refuse()

    def reserve_bytes(self, count: int) -> None:
        """`count` more bytes of a body came.

        Raises:
            Overloaded: the server holds as many as it may. They are not counted.
        """
        self.bytes += count
        if self.bytes > self.max_bytes:
            self.bytes -= count
            self.refused += 1
            raise self._too_many_bytes()

    def hold_bytes(self, count: int) -> None:
        """`count` bytes of an answer wait for a client to read. They exist already, so they cannot be refused.

        While they are over the limit, new requests are.
        """
        self.bytes += count

    def release_bytes(self, count: int) -> None:
        """`count` bytes are free again."""
        self.bytes -= count

    def _refuse(self) -> None:
        self.refused += 1
        if self.draining:
            raise Unavailable("the server is shutting down", hint="send the request to another replica")
        if self.requests < self.max_requests:
            raise self._too_many_bytes()
        raise Overloaded(
            f"{self.requests} requests are in flight; limits.max_requests allows {self.max_requests}",
            hint="retry later, or raise limits.max_requests",
            limit="limits.max_requests",
        )

    def _too_many_bytes(self) -> Overloaded:
        return Overloaded(
            f"the server holds {self.bytes} bytes of requests and unread answers; "
            f"limits.max_buffered_bytes allows {self.max_bytes}",
            hint="retry later, or raise limits.max_buffered_bytes",
            limit="limits.max_buffered_bytes",
        )
