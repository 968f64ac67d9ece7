"""Errors as this API tells them: problem details (RFC 9457) with the members that every error of ours has.

`error`, `code` and `hint` are also what the data plane says of an error, so that one client makes the same of both.
"""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from taxiway.core.errors import ErrorKind, TaxiwayError
from taxiway.server.wire.status import REASONS, STRICT

MEDIA_TYPE = "application/problem+json"


def problem_of(error: TaxiwayError) -> Response:
    """The answer that tells `error`."""
    status = STRICT.status_of(error)
    body: dict[str, Any] = {
        "error": error.message,
        "type": f"urn:taxiway:error:{error.code}",
        "title": REASONS.get(status, "Error"),
        "status": status,
        "detail": error.message,
        **error.to_data(),
    }
    headers = {}
    if "retry_after_s" in error.facts:
        headers["Retry-After"] = str(max(1, round(error.facts["retry_after_s"])))
    if error.kind is ErrorKind.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body, default=str), status, headers, MEDIA_TYPE)
