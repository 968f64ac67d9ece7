"""The one table from error kinds to HTTP and gRPC, and what `--compat triton` answers instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from taxiway.core.errors import ErrorKind, TaxiwayError

_BY_KIND: dict[ErrorKind, tuple[int, str]] = {
    ErrorKind.INVALID_ARGUMENT: (400, "INVALID_ARGUMENT"),
    ErrorKind.UNAUTHENTICATED: (401, "UNAUTHENTICATED"),
    ErrorKind.PERMISSION_DENIED: (403, "PERMISSION_DENIED"),
    ErrorKind.NOT_FOUND: (404, "NOT_FOUND"),
    ErrorKind.ALREADY_EXISTS: (409, "ALREADY_EXISTS"),
    ErrorKind.FAILED_PRECONDITION: (409, "FAILED_PRECONDITION"),
    ErrorKind.UNSUPPORTED: (501, "UNIMPLEMENTED"),
    ErrorKind.RESOURCE_EXHAUSTED: (503, "RESOURCE_EXHAUSTED"),
    ErrorKind.UNAVAILABLE: (503, "UNAVAILABLE"),
    ErrorKind.DEADLINE_EXCEEDED: (504, "DEADLINE_EXCEEDED"),
    ErrorKind.CANCELLED: (499, "CANCELLED"),
    ErrorKind.VERDICT_FAILED: (409, "FAILED_PRECONDITION"),
    ErrorKind.VERDICT_INCONCLUSIVE: (409, "FAILED_PRECONDITION"),
    ErrorKind.AWAITING_APPROVAL: (409, "FAILED_PRECONDITION"),
    ErrorKind.DATA_LOSS: (500, "DATA_LOSS"),
    ErrorKind.INTERNAL: (500, "INTERNAL"),
}
"""The HTTP status, and the name of the gRPC one."""

_STRICT_CODES: dict[str, int] = {
    "too-large": 413,
    "header-too-large": 431,
    "request-timeout": 408,
    "method-not-allowed": 405,
    "generate-invalid": 422,
}

_TRITON_CODES: dict[str, int] = {
    **_STRICT_CODES,
    # Triton answers what its JSON reader refuses with INTERNAL (wire.md, defect D8).
    "malformed-json": 500,
    "malformed-request": 500,
    "wrong-element-type": 500,
    "wrong-element-count": 500,
    "value-out-of-range": 500,
    # So does whoever cannot read a model's configuration, or find it.
    "already-exists": 400,
    "invalid-config": 500,
    "region-unusable": 500,
    "repository-model-not-found": 500,
    "version-not-served": 503,
    "generate-invalid": 400,
    "cancelled": 400,
    "unknown-failure": 400,
    "deadline-exceeded": 503,
    "failed-precondition": 503,
    "statistics-not-found": 400,
    "trace-model-not-found": 400,
}

_TRITON_GRPC: dict[str, str] = {
    "unknown-failure": "UNKNOWN",
    # Triton has no statuses of its own for these: what it refuses for want of room or time is UNAVAILABLE.
    "overloaded": "UNAVAILABLE",
    "deadline-exceeded": "UNAVAILABLE",
    "failed-precondition": "UNAVAILABLE",
    "invalid-config": "INTERNAL",
    "region-unusable": "INTERNAL",
    "repository-model-not-found": "INTERNAL",
    "version-not-served": "UNAVAILABLE",
    "statistics-not-found": "INVALID_ARGUMENT",
    "trace-model-not-found": "INVALID_ARGUMENT",
}

REASONS: Mapping[int, str] = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, slots=True)
class Profile:
    """How the front door words what it says: `strict` is ours, `triton` is Triton 2.51's statuses.

    Attributes:
        codes, grpc_codes: statuses by error code, where its kind's is not right.
        health_bodies: health answers carry a JSON body (the Open Inference Protocol's), or none (Triton's).
        not_ready_status: what a readiness probe gets while not ready.
    """

    name: str
    codes: Mapping[str, int]
    grpc_codes: Mapping[str, str]
    health_bodies: bool
    not_ready_status: int
    explains: bool

    def status_of(self, error: TaxiwayError) -> int:
        """The HTTP status that tells `error`."""
        return self.codes.get(error.code) or _BY_KIND[error.kind][0]

    def grpc_status_of(self, error: TaxiwayError) -> str:
        """The name of the gRPC status that tells `error`."""
        return self.grpc_codes.get(error.code) or _BY_KIND[error.kind][1]

    def body_of(self, error: TaxiwayError) -> bytes:
        """The JSON body that tells `error`; clients of Triton read its `error` member."""
        if not self.explains:
            return orjson.dumps({"error": error.message}, default=str)
        body: dict[str, str] = {"error": error.message, "code": error.code}
        if error.hint:
            body["hint"] = error.hint
        return orjson.dumps(body, default=str)


STRICT = Profile("strict", _STRICT_CODES, {}, health_bodies=True, not_ready_status=503, explains=True)
TRITON = Profile("triton", _TRITON_CODES, _TRITON_GRPC, health_bodies=False, not_ready_status=400, explains=False)
PROFILES = {profile.name: profile for profile in (STRICT, TRITON)}
