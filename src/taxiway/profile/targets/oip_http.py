"""Servers of the Open Inference Protocol v2 over HTTP: taxiway, Triton, KServe, MLServer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from taxiway.core.errors import InvalidArgument, TaxiwayError
from taxiway.profile.generating.job import Door, Shot
from taxiway.profile.phases import Counters, counters_of
from taxiway.profile.resources import listener_of
from taxiway.profile.targets.asking import Address, Asker, resolve
from taxiway.profile.targets.inputs import Shapes, made_up
from taxiway.profile.targets.rendering import HEADER_LENGTH, binary_body, http_shot, json_body
from taxiway.profile.workload import Request, Workload

MODEL_PATH: Final = re.compile(r"/v2/models/(?P<model>[^/?]+)(?:/versions/(?P<version>[^/?]+))?(?:/infer)?/?")


class OipHttpTarget:
    """A model behind `http://host:port/v2/models/NAME[/versions/N]`; see `Target`.

    Args:
        address: with that path.
        headers: of each request, besides those of the workload's.
        binary: whether tensors are sent and asked for as binary data.
        shapes: of inputs that are made up.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str], *, binary: bool = False, shapes: Shapes | None = None
    ) -> None:
        match = MODEL_PATH.fullmatch(address.path)
        if match is None:
            raise InvalidArgument(
                f"{address.path!r} is not /v2/models/NAME or /v2/models/NAME/versions/N", hint="name the model"
            )
        version = f"/versions/{match['version']}" if match["version"] else ""
        self._address = address
        self._base = f"/v2/models/{match['model']}{version}"
        self._headers = dict(headers)
        self._asker = Asker(address, self._headers)
        self._binary = binary
        self._shapes = shapes or {}
        self._metadata: Mapping[str, Any] = {}
        self._ip = address.host
        self.name = f"{address.scheme}://{address.host_header}{self._base}"

    async def open(self) -> None:
        """Ask what the model takes."""
        self._metadata = await self._asker.get(self._base)
        self._ip = await resolve(self._address)

    async def close(self) -> None:
        """Nothing was started."""

    @property
    def door(self) -> Door:
        """The server's."""
        host = self._address.host if self._address.tls else self._ip
        return Door(host, self._address.port, self._address.tls)

    def render(self, workload: Workload | None) -> list[Shot]:
        """POST /infer, one for each request."""
        if workload is None:
            return [self._shot(inputs, {}) for inputs in made_up(self._metadata, self._shapes)]
        return [self._shot(inputs_of(one, number), one.headers) for number, one in enumerate(workload.requests, 1)]

    async def counters(self) -> Counters | None:
        """The model's statistics, an extension that not every server has."""
        try:
            return counters_of(await self._asker.get(f"{self._base}/stats"))
        except (TaxiwayError, TypeError, ValueError, AttributeError):
            return None

    def process(self) -> int | None:
        """Whoever listens on the port."""
        return listener_of(self._address.host, self._address.port)

    def _shot(self, inputs: list[dict[str, Any]], headers: Mapping[str, str]) -> Shot:
        if not self._binary:
            head, body = {"Content-Type": "application/json"}, json_body(inputs)
        else:
            body, length = binary_body(inputs)
            head = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(length)}
        return http_shot(self._address, f"{self._base}/infer", body, head | self._headers | dict(headers))


def inputs_of(request: Request, number: int) -> list[dict[str, Any]]:
    """The tensors of a request of a workload.

    Raises:
        InvalidArgument: it has none.
    """
    inputs = request.inputs if request.inputs is not None else (request.body or {}).get("inputs")
    if not isinstance(inputs, list):
        raise InvalidArgument(
            f"request {number} of the workload has no inputs, which this target needs",
            hint='{"inputs": [{"name": ..., "shape": ..., "datatype": ..., "data": ...}]}',
        )
    return inputs
