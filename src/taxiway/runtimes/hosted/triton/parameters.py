"""Parameters of requests and responses, as models give them: a dict in, JSON out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from taxiway.runtimes.hosted.triton.problems import TritonModelException


def checked(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of them.

    Raises:
        TritonModelException: a value is of none of the types that it may have.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect a dictionary of parameters, found type {type(parameters)}")
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise TritonModelException(f"Expect parameters keys to have type str, found type {type(name)}")
        if not isinstance(value, bool | int | str):
            raise TritonModelException(f"Expect parameters values to have type bool/int/str, found type {type(value)}")
    return dict(parameters)


def printed(parameters: Mapping[str, Any] | None, *, spaces: bool) -> str:
    """As JSON; Triton puts spaces into those that a model made, and none into those that came."""
    return json.dumps(parameters or {}, ensure_ascii=spaces, separators=None if spaces else (",", ":"))
