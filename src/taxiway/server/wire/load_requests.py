"""The bodies of load and unload calls."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from taxiway.core.errors import InvalidArgument, MalformedRequest
from taxiway.server.wire.elements import parse_json
from taxiway.server.wire.exchange import Buffer

_FILE = "file:"
_HINT = "parameters are 'config' (the configuration as JSON text) and 'file:VERSION/NAME' (base64)"


def read_load(body: Buffer) -> tuple[str | None, dict[str, bytes]]:
    """The configuration (JSON text, None if none is given) and the files of a load call, by relative path.

    Raises:
        InvalidArgument: what is wrong with it.
    """
    config: str | None = None
    files: dict[str, bytes] = {}
    for name, value in _parameters(body).items():
        if value.__class__ is not str:
            raise MalformedRequest(f"load parameter '{name[:200]}' must be a string", hint=_HINT)
        if name != "config" and not name.startswith(_FILE):
            raise MalformedRequest(f"unrecognized load parameter '{name[:200]}'.", hint=_HINT)
        if name == "config":
            config = value
        else:
            files[name.removeprefix(_FILE)] = _decoded(name, value)
    return config, files


def read_unload(body: Buffer) -> bool:
    """Whether an unload call asks for models that only this one needs, too.

    Raises:
        InvalidArgument: what is wrong with it.
    """
    dependents = False
    for name, value in _parameters(body).items():
        if name == "unload_dependents":
            if value.__class__ is not bool:
                raise MalformedRequest("unload parameter 'unload_dependents' must be true or false")
            dependents = bool(value)
    return dependents


def _parameters(body: Buffer) -> dict[str, Any]:
    if not len(body):
        return {}
    document = parse_json(body)
    if document.__class__ is not dict:
        raise MalformedRequest("the body must be a JSON object")
    parameters = document.get("parameters", {})
    if parameters.__class__ is not dict:
        raise MalformedRequest("the parameters must be a JSON object", hint=_HINT)
    return dict(parameters)


def _decoded(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise InvalidArgument(f"load parameter '{name[:200]}' is not base64: {problem}", hint=_HINT) from problem
