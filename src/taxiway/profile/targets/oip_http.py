"""Servers of the Open Inference Protocol v2 over HTTP: taxiway, Triton, KServe, MLServer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from taxiway.core.errors import InvalidArgument
from taxiway.profile.filling import fill_inputs
from taxiway.profile.generating.job import Shot
from taxiway.profile.requests import Request
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.http_target import HttpTarget
from taxiway.profile.targets.inputs import Shapes
from taxiway.profile.targets.rendering import HEADER_LENGTH, binary_body, json_body
from taxiway.profile.workload import Workload
from taxiway.profile.workload_lines import check_inputs

_MODEL_PATH: Final = re.compile(r"/v2/models/(?P<model>[^/?]+(?:/versions/[^/?]+)?)(?:/infer)?/?")


def is_oip_path(path: str) -> bool:
    """Whether a model of the v2 protocol may be there."""
    return _MODEL_PATH.fullmatch(path) is not None


class OipHttpTarget(HttpTarget):
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
        match = _MODEL_PATH.fullmatch(address.path)
        if match is None:
            raise InvalidArgument(
                f"{address.path!r} is not /v2/models/NAME or /v2/models/NAME/versions/N", hint="name the model"
            )
        path = f"/v2/models/{match['model']}"
        super().__init__(replace(address, path=f"{path}/infer"), headers, match["model"], shapes)
        self.name = f"{address.scheme}://{address.host_header}{path}"
        self._binary = binary

    async def open(self) -> None:
        """Ask what the model takes."""
        await super().open()
        if self._metadata is None:
            self._metadata = await self._asker.get(f"/v2/models/{self._model}")  # raises what was passed over

    def render(self, workload: Workload | None) -> list[Shot]:
        """POST /infer, one for each request."""
        return [
            self._shot(inputs_of(one, number), one.headers) for number, one in enumerate(self._requests(workload), 1)
        ]

    def _shot(self, inputs: list[dict[str, Any]], headers: Mapping[str, str]) -> Shot:
        if not self._binary:
            return self._post(json_body(inputs), headers)
        body, length = binary_body(inputs)
        return self._post(body, {HEADER_LENGTH: str(length), **headers}, "application/octet-stream")


def inputs_of(request: Request, number: int) -> list[dict[str, Any]]:
    """The tensors of a request of a workload.

    Raises:
        InvalidArgument: it has none, or those of its body break a rule.
    """
    inputs = request.inputs if request.inputs is not None else (request.body or {}).get("inputs")
    if not isinstance(inputs, list):
        raise InvalidArgument(
            f"request {number} of the workload has no inputs, which this target needs",
            hint='{"inputs": [{"name": ..., "shape": ..., "datatype": ..., "data": ...}]}',
        )
    if request.inputs is None:  # what stands in a body was not checked when it was read
        for field, rule, step in check_inputs("body.inputs", inputs):
            raise InvalidArgument(f"request {number} of the workload, {field}: {rule}", hint=step)
    return fill_inputs(inputs, np.random.default_rng(number))
