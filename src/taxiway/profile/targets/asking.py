"""Questions to a server beside the load: what a model takes, what was counted."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from taxiway.core.errors import InvalidArgument, ModelNotFound, TargetUnavailable

_TIMEOUT_S: Final = 10.0
_CONNECT_S: Final = 5.0
_SCHEMES: Final = {"http": 80, "https": 443, "grpc": 8001, "grpcs": 8001}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is; `path` begins with a slash, or is empty."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read an URL of http, https, grpc or grpcs.

        Raises:
            InvalidArgument: it is none.
        """
        if any(not "!" <= char <= "~" for char in url):
            raise InvalidArgument(
                f"target {url!r} has characters that no URL has",
                hint="write them as %XX (a space is %20), and those of a host's name as xn--",
            )
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _no_url(url) from None
        if parts.scheme not in _SCHEMES or not host:
            raise _no_url(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(parts.scheme, host, port or _SCHEMES[parts.scheme], path)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme.endswith("s")

    @property
    def host_header(self) -> str:
        """Host and port, as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Asker:
    """Asks the server at `address`, on a connection of its own each time."""

    address: Address
    headers: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """The JSON at `path`.

        Raises:
            TargetUnavailable: nobody answers, or not in JSON.
            ModelNotFound: 404.
        """
        status, body = await asyncio.to_thread(self._ask, path)
        if status == http.client.NOT_FOUND:
            raise ModelNotFound(f"{self.address.host_header} has nothing at {path}", hint="check the model's name")
        if status != http.client.OK:
            raise TargetUnavailable(f"{self.address.host_header} answered {status} at {path}: {body[:200]!r}")
        try:
            return json.loads(body)
        except ValueError:
            raise TargetUnavailable(f"{self.address.host_header} did not answer in JSON at {path}") from None

    def _ask(self, path: str) -> tuple[int, bytes]:
        address = self.address
        kind = http.client.HTTPSConnection if address.tls else http.client.HTTPConnection
        connection = kind(address.host, address.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path, headers=self.headers)
            with connection.getresponse() as response:
                return response.status, response.read()
        except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last of a host's name
            raise unavailable(address, str(error) or type(error).__name__) from None
        finally:
            connection.close()


def unavailable(address: Address, why: str) -> TargetUnavailable:
    """Nobody answers there."""
    return TargetUnavailable(
        f"nobody answers at {address.host_header}: {why}", hint="is the server started, and is this its port?"
    )


def _no_url(url: str) -> InvalidArgument:
    return InvalidArgument(
        f"target {url!r} is not an URL of {', '.join(_SCHEMES)} with a host",
        hint="for example http://127.0.0.1:8000/v2/models/fraud, or http://[::1]:8000/v2/models/fraud",
    )


async def reach(address: Address) -> str:
    """The first IP address of the host that accepts a connection: a server may listen on one of several only.

    Raises:
        TargetUnavailable: the name is unknown, or none accepts one.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise unavailable(address, str(error)) from None
    problem = "it has no address"
    for ip in dict.fromkeys(str(one[4][0]) for one in found):
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(ip, address.port)
        except OSError as error:  # TimeoutError is one
            problem = str(error) or f"{ip} accepts no connection within {_CONNECT_S:g} s"
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return ip
    raise unavailable(address, problem)
