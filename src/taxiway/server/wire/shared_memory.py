"""Shared memory over HTTP: registering regions, and asking what is registered."""

from __future__ import annotations

from typing import Any

import orjson

from taxiway.core.errors import InvalidArgument, MalformedRequest, NotFound
from taxiway.server.administration import Administration
from taxiway.server.shared_memory import refuse_cuda
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.routes import Route


class SharedMemoryEndpoints:
    """The system and CUDA shared memory extensions; of CUDA nothing is ever registered."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def routes(self) -> list[Route]:
        """All of them."""
        system, cuda = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
        return [
            Route("GET", f"{system}/status", self.status, "Regions of shared memory", scope="read"),
            Route("GET", f"{system}/region/{{region}}/status", self.status, "One region", scope="read"),
            Route("POST", f"{system}/region/{{region}}/register", self.register, "Register a region"),
            Route("POST", f"{system}/register", self.register_nothing, "Refused: name a region"),
            Route("POST", f"{system}/region/{{region}}/unregister", self.unregister, "Forget a region"),
            Route("POST", f"{system}/unregister", self.unregister, "Forget every region"),
            Route("GET", f"{cuda}/status", self.cuda_status, "Regions of GPU memory: none", scope="read"),
            Route("GET", f"{cuda}/region/{{region}}/status", self.cuda_status, "Refused: there is none", scope="read"),
            Route("POST", f"{cuda}/region/{{region}}/register", self.cuda_register, "Refused: there is no GPU memory"),
            Route("POST", f"{cuda}/region/{{region}}/unregister", self.cuda_unregister, "Nothing to forget"),
            Route("POST", f"{cuda}/unregister", self.cuda_unregister, "Nothing to forget"),
        ]

    # --- system -------------------------------------------------------------------------------------------

    def status(self, exchange: Exchange) -> None:
        """GET /v2/systemsharedmemory[/region/{region}]/status."""
        exchange.reply(200, orjson.dumps(self._administration.regions(_region(exchange))))

    def register(self, exchange: Exchange) -> None:
        """POST /v2/systemsharedmemory/region/{region}/register."""
        if not len(exchange.body):
            raise MalformedRequest("Shared memory register request has no body; it needs 'key' and 'byte_size'")
        document = parse_json(exchange.body)
        for name in ("key", "byte_size"):
            if document.__class__ is not dict or name not in document:
                raise InvalidArgument(f"Shared memory register request has no '{name}' field")
        key = document["key"]
        if key.__class__ is not str:
            raise MalformedRequest(f"'key' is {type(key).__name__}; it must be a string")
        offset, byte_size = _unsigned(document, "offset"), _unsigned(document, "byte_size")
        exchange.reply_with(self._register(exchange.head.match.params["region"], key, offset, byte_size))

    async def _register(self, name: str, key: str, offset: int, byte_size: int) -> bytes:
        await self._administration.register_region(name, key, offset, byte_size)
        return b""

    def register_nothing(self, _exchange: Exchange) -> None:
        """POST /v2/systemsharedmemory/register.

        Raises:
            InvalidArgument: always.
        """
        raise InvalidArgument(
            "'region name' is necessary to register system shared memory region",
            hint="POST /v2/systemsharedmemory/region/{region}/register",
        )

    def unregister(self, exchange: Exchange) -> None:
        """POST /v2/systemsharedmemory[/region/{region}]/unregister."""
        exchange.reply_with(self._unregister(_region(exchange)))

    async def _unregister(self, name: str | None) -> bytes:
        await self._administration.unregister_region(name)
        return b""

    # --- CUDA ---------------------------------------------------------------------------------------------

    def cuda_status(self, exchange: Exchange) -> None:
        """GET /v2/cudasharedmemory[/region/{region}]/status."""
        self._administration.regions(None)  # says that all of it is off, if it is
        name = _region(exchange)
        if name is not None:
            raise NotFound(f"Unable to find cuda shared memory region: '{name}'")
        exchange.reply(200, b"[]")

    def cuda_register(self, exchange: Exchange) -> None:
        """POST /v2/cudasharedmemory/region/{region}/register.

        Raises:
            Unsupported: always.
        """
        self._administration.regions(None)
        refuse_cuda(exchange.head.match.params["region"])

    def cuda_unregister(self, exchange: Exchange) -> None:
        """POST /v2/cudasharedmemory[/region/{region}]/unregister."""
        self._administration.regions(None)
        exchange.reply(200)


def _region(exchange: Exchange) -> str | None:
    return exchange.head.match.params.get("region")


def _unsigned(document: dict[str, Any], name: str) -> int:
    value = document.get(name, 0)
    if value.__class__ is not int or not 0 <= value < 2**64:
        raise MalformedRequest(f"'{name}' is {str(value)[:40]!r}; it must be an unsigned integer")
    return int(value)
