"""Servers of KServe's v1 protocol: `POST /v1/models/NAME:predict`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from taxiway.core.errors import InvalidArgument
from taxiway.profile.generating.job import Shot
from taxiway.profile.requests import Request
from taxiway.profile.targets.asking import Address
from taxiway.profile.targets.http_target import HttpTarget, body_of
from taxiway.profile.targets.inputs import Shapes
from taxiway.profile.targets.oip_http import inputs_of
from taxiway.profile.workload import Workload

_PATH: Final = re.compile(r"/v1/models/(?P<model>[^/?:]+):predict")


def is_predict_path(path: str) -> bool:
    """Whether it is v1's."""
    return _PATH.fullmatch(path) is not None


class KServeV1Target(HttpTarget):
    """A model behind `http://host:port/v1/models/NAME:predict`; see `Target`."""

    def __init__(self, address: Address, headers: Mapping[str, str], shapes: Shapes | None = None) -> None:
        match = _PATH.fullmatch(address.path)
        super().__init__(address, headers, match["model"] if match else "", shapes)

    def render(self, workload: Workload | None) -> list[Shot]:
        """The body of each request; tensors become instances."""
        return [
            self._post(orjson.dumps(self._body(one, number)), one.headers)
            for number, one in enumerate(self._requests(workload), 1)
        ]

    def _body(self, request: Request, number: int) -> dict[str, Any]:
        if request.inputs is None:
            return body_of(request, number, '{"body": {"instances": [...]}}')
        return {"instances": instances_of(inputs_of(request, number))}


def instances_of(inputs: list[dict[str, Any]]) -> list[Any]:
    """One instance for each row of tensors that share their first size; of a single input, its rows.

    Raises:
        InvalidArgument: an input is no tensor, or they do not share it.
    """
    try:
        rows = {str(one["name"]): np.asarray(one["data"], object).reshape(one["shape"]).tolist() for one in inputs}
        if len(rows) == 1:
            return list(next(iter(rows.values())))
        return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"these inputs cannot be told as instances: {error}", hint='give a body: {"body": {"instances": [...]}}'
        ) from None
