"""What the targets over HTTP share: an address, headers, a door, a process that listens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters, counters_of
from taxiway.profile.requests import Request
from taxiway.profile.resources import listener_of
from taxiway.profile.targets.asking import Address, Asker, reach
from taxiway.profile.targets.inputs import Shapes, made_up
from taxiway.profile.targets.rendering import check_header, http_shot
from taxiway.profile.workload import Workload


class HttpTarget:
    """Part of each of them; see `Target`.

    Args:
        address: with the path that requests are posted to.
        headers: of each request, besides those of the workload's.
        model: the name under which the v2 protocol knows what is asked, if the server speaks that too; empty for none.
        shapes: of inputs that are made up.

    Raises:
        InvalidArgument: a header cannot be sent.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], model: str, shapes: Shapes | None = None) -> None:
        for name, value in headers.items():
            check_header(name, value)
        self.name = f"{address.scheme}://{address.host_header}{address.path}"
        self._address = address
        self._headers = dict(headers)
        self._asker = Asker(address, self._headers)
        self._model = model
        self._shapes = shapes or {}
        self._ip = address.host
        self._metadata: Mapping[str, Any] | None = None

    async def open(self) -> None:
        """Find the server, and ask what the model takes, if it can tell."""
        self._ip = await reach(self._address)
        if self._model:
            try:
                self._metadata = await self._asker.get(f"/v2/models/{self._model}")
            except TaxiwayError:
                self._metadata = None  # it speaks its own protocol only

    async def close(self) -> None:
        """Nothing was started."""

    @property
    def door(self) -> Door:
        """The server's."""
        host = self._address.host if self._address.tls else self._ip
        return Door(host, self._address.port, self._address.tls)

    async def counters(self) -> Counters | None:
        """The model's statistics, an extension of v2 that not every server has."""
        if not self._model:
            return None
        try:
            return counters_of(await self._asker.get(f"/v2/models/{self._model}/stats"))
        except (TaxiwayError, TypeError, ValueError, AttributeError):
            return None

    def process(self) -> int | None:
        """Whoever listens on the port."""
        return listener_of(self._address.host, self._address.port)

    def _post(self, body: bytes, headers: Mapping[str, str], content_type: str = "application/json") -> Shot:
        return http_shot(
            self._address, self._address.path, body, {"Content-Type": content_type} | self._headers | dict(headers)
        )

    def _requests(self, workload: Workload | None) -> list[Request]:
        """Those of the workload, else made up."""
        if workload is not None:
            return workload.requests
        if self._metadata is None:
            raise InvalidArgument(
                f"{self.name} does not say what it takes, so that no request can be made up",
                hint='give a workload: --workload requests.jsonl, a line is {"body": {...}}',
            )
        return [Request(inputs=inputs) for inputs in made_up(self._metadata, self._shapes)]


def body_of(request: Request, number: int, needed: str) -> dict[str, Any]:
    """The body of a request of a workload.

    Raises:
        InvalidArgument: it has none.
    """
    if not isinstance(request.body, dict):
        raise InvalidArgument(f"request {number} of the workload has no body", hint=f"this target needs {needed}")
    return request.body
