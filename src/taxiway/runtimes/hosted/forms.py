"""Bodies of HTTP forms, taken apart: `multipart/form-data` (RFC 7578) and `application/x-www-form-urlencoded`."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from taxiway.core.errors import MalformedRequest, TooLarge

MAX_FIELDS = 1000
_MAX_HEAD_BYTES = 8192
_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;\s]*)')


class Field(NamedTuple):
    """One field of a form; a file has a type, and what is typed in has none."""

    name: str
    value: bytes
    media_type: str | None


def media_type_of(content_type: str) -> str:
    """The type that a Content-Type names, in lower case and without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form."""
    return media_type_of(content_type) in (_MULTIPART, _URLENCODED)


def read_form(body: bytes, content_type: str) -> list[Field]:
    """The fields of a form, in their order.

    Raises:
        MalformedRequest: it is not what its type says.
        TooLarge: it has more than MAX_FIELDS fields.
    """
    if media_type_of(content_type) == _URLENCODED:
        return _read_urlencoded(body)
    return _read_multipart(body, content_type)


def _read_urlencoded(body: bytes) -> list[Field]:
    pairs = [pair.partition(b"=") for pair in body.split(b"&", MAX_FIELDS) if pair]
    if len(pairs) > MAX_FIELDS:
        raise _too_many()
    return [Field(_decoded(name).decode("utf-8", "replace"), _decoded(value), None) for name, _, value in pairs]


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _read_multipart(body: bytes, content_type: str) -> list[Field]:
    boundary = _parameters(content_type).get("boundary", "")
    if not 1 <= len(boundary) <= 70:
        raise MalformedRequest("a multipart body needs a boundary of 1 to 70 characters in its Content-Type")
    mark = b"\r\n--" + boundary.encode("latin-1")
    parts = (b"\r\n" + body).split(mark, MAX_FIELDS + 2)
    if len(parts) > MAX_FIELDS + 2:
        raise _too_many()
    if len(parts) < 2 or not parts[-1].startswith(b"--"):
        raise MalformedRequest("the multipart body does not end with its boundary")
    return [_read_part(part) for part in parts[1:-1]]


def _read_part(part: bytes) -> Field:
    padding, begun, rest = part.partition(b"\r\n")
    head, ended, value = (b"\r\n" + rest).partition(b"\r\n\r\n")
    if padding.strip(b" \t") or not begun or not ended or len(head) > _MAX_HEAD_BYTES:
        raise MalformedRequest(f"a part of the multipart body has no head of at most {_MAX_HEAD_BYTES} bytes")
    lines = [line.partition(":") for line in head.decode("utf-8", "replace").split("\r\n") if line]
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    disposition = headers.get("content-disposition", "")
    told = _parameters(disposition)
    if media_type_of(disposition) != "form-data" or "name" not in told:
        raise MalformedRequest("a part of the multipart body has no Content-Disposition: form-data with a name")
    is_file = "filename" in told or "filename*" in told
    media_type = media_type_of(headers.get("content-type", "application/octet-stream")) if is_file else None
    return Field(told["name"], value, media_type)


def _parameters(header: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in _PARAMETER.findall(header):
        text = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] == '"' else value
        found.setdefault(name.lower(), text)
    return found


def _too_many() -> TooLarge:
    return TooLarge(f"the form has more than {MAX_FIELDS} fields", limit=MAX_FIELDS)
