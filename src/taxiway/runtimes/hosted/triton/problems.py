"""Errors as models make, raise and are told them."""

from __future__ import annotations

import enum
from typing import ClassVar

from taxiway.core.errors import (
    AlreadyExists,
    Cancelled,
    ErrorKind,
    InvalidArgument,
    ModelFailed,
    NotFound,
    TaxiwayError,
    Unavailable,
    UnknownFailure,
    Unsupported,
)


class TritonModelException(Exception):
    """What models raise, and what is raised at them."""


class ErrorCode(enum.IntEnum):
    """What sort of failure it is; numbered as Triton does."""

    UNKNOWN = 0
    INTERNAL = 1
    NOT_FOUND = 2
    INVALID_ARG = 3
    UNAVAILABLE = 4
    UNSUPPORTED = 5
    ALREADY_EXISTS = 6
    CANCELLED = 7


_ERRORS: dict[ErrorCode, type[TaxiwayError]] = {
    ErrorCode.UNKNOWN: UnknownFailure,
    ErrorCode.INTERNAL: ModelFailed,
    ErrorCode.NOT_FOUND: NotFound,
    ErrorCode.INVALID_ARG: InvalidArgument,
    ErrorCode.UNAVAILABLE: Unavailable,
    ErrorCode.UNSUPPORTED: Unsupported,
    ErrorCode.ALREADY_EXISTS: AlreadyExists,
    ErrorCode.CANCELLED: Cancelled,
}
_CODES: dict[str, ErrorCode] = {
    ErrorKind.INVALID_ARGUMENT.value: ErrorCode.INVALID_ARG,
    ErrorKind.NOT_FOUND.value: ErrorCode.NOT_FOUND,
    ErrorKind.ALREADY_EXISTS.value: ErrorCode.ALREADY_EXISTS,
    ErrorKind.UNSUPPORTED.value: ErrorCode.UNSUPPORTED,
    ErrorKind.RESOURCE_EXHAUSTED.value: ErrorCode.UNAVAILABLE,
    ErrorKind.UNAVAILABLE.value: ErrorCode.UNAVAILABLE,
    ErrorKind.DEADLINE_EXCEEDED.value: ErrorCode.UNAVAILABLE,
    ErrorKind.CANCELLED.value: ErrorCode.CANCELLED,
}
"""By the kind of an error of ours; Triton has no others."""


class TritonError:
    """Why a response has no outputs."""

    UNKNOWN: ClassVar = ErrorCode.UNKNOWN
    INTERNAL: ClassVar = ErrorCode.INTERNAL
    NOT_FOUND: ClassVar = ErrorCode.NOT_FOUND
    INVALID_ARG: ClassVar = ErrorCode.INVALID_ARG
    UNAVAILABLE: ClassVar = ErrorCode.UNAVAILABLE
    UNSUPPORTED: ClassVar = ErrorCode.UNSUPPORTED
    ALREADY_EXISTS: ClassVar = ErrorCode.ALREADY_EXISTS
    CANCELLED: ClassVar = ErrorCode.CANCELLED

    __slots__ = ("_code", "_message")

    def __init__(self, message: str, code: ErrorCode = ErrorCode.INTERNAL) -> None:
        if not isinstance(message, str):
            raise TypeError(f"a TritonError's message is text, not {type(message).__name__}")
        self._message = message
        self._code = ErrorCode(code)

    def message(self) -> str:
        """What went wrong."""
        return self._message

    def code(self) -> ErrorCode:
        """What sort of failure it is."""
        return self._code

    def told(self) -> TaxiwayError:
        """As it goes to the data plane."""
        return _ERRORS[self._code](self._message)

    @classmethod
    def of(cls, data: dict[str, object]) -> TritonError:
        """What the data plane told."""
        return cls(str(data["message"]), _CODES.get(str(data["kind"]), ErrorCode.INTERNAL))
