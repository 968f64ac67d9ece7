"""Servers of TorchServe's protocol: `POST /predictions/NAME[/VERSION]`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import orjson

from taxiway.profile.generating.job import Shot
from taxiway.profile.requests import Request
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.http_target import HttpTarget, body_of
from taxiway.profile.targets.inputs import Shapes
from taxiway.profile.targets.kserve_v1 import instances_of
from taxiway.profile.targets.oip_http import inputs_of
from taxiway.profile.workload import Workload

_PATH: Final = re.compile(r"/predictions/(?P<model>[^/?]+)(?:/(?P<version>[^/?]+))?")


def is_predictions_path(path: str) -> bool:
    """Whether it is TorchServe's."""
    return _PATH.fullmatch(path) is not None


class TorchServeTarget(HttpTarget):
    """A model behind `http://host:port/predictions/NAME[/VERSION]`; see `Target`."""

    def __init__(self, address: Address, headers: Mapping[str, str], shapes: Shapes | None = None) -> None:
        match = _PATH.fullmatch(address.path)
        super().__init__(address, headers, match["model"] if match else "", shapes)

    def render(self, workload: Workload | None) -> list[Shot]:
        """The body of each request; a text is sent as it is, other tensors become instances in KServe's envelope."""
        return [self._shot(one, number) for number, one in enumerate(self._requests(workload), 1)]

    def _shot(self, request: Request, number: int) -> Shot:
        if request.inputs is None:
            return self._post(orjson.dumps(body_of(request, number, "one, in JSON")), request.headers)
        inputs = inputs_of(request, number)
        if [one.get("datatype") for one in inputs] == ["BYTES"]:
            return self._post(str(inputs[0]["data"][0]).encode(), request.headers, "text/plain")
        return self._post(orjson.dumps({"instances": instances_of(inputs)}), request.headers)
