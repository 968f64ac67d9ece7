"""Bodies of forms."""

from __future__ import annotations

import pytest

from taxiway.core.errors import MalformedRequest, TooLarge
from taxiway.runtimes.hosted.forms import MAX_FIELDS, Field, is_form, media_type_of, read_form

MULTIPART = "multipart/form-data; boundary=xyz"


def part(head: str, value: bytes) -> bytes:
    return b"--xyz\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"


def test_multipart_fields_and_files_come_in_order() -> None:
    body = (
        part('Content-Disposition: form-data; name="data"; filename="a.png"\r\nContent-Type: image/PNG', b"\x89\r\n--x")
        + part('content-disposition: form-data; name="a \\"quoted\\" one"', b"")
        + part("Content-Disposition: form-data; name=file; filename=b", b"1")
        + b"--xyz--\r\n"
    )
    assert read_form(body, MULTIPART) == [
        Field("data", b"\x89\r\n--x", "image/png"),
        Field('a "quoted" one', b"", None),
        Field("file", b"1", "application/octet-stream"),
    ]


def test_a_preamble_and_an_epilogue_are_no_fields() -> None:
    body = b"hello\r\n" + part('Content-Disposition: form-data; name="a"', b"1") + b"--xyz--\r\nbye"
    assert read_form(body, 'multipart/form-data; charset=utf-8; boundary="xyz"') == [Field("a", b"1", None)]


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"--xyz--", "multipart/form-data", "needs a boundary"),
        (b"--xyz--", f"multipart/form-data; boundary={'x' * 71}", "needs a boundary"),
        (b"", MULTIPART, "does not end"),
        (part('Content-Disposition: form-data; name="a"', b"1"), MULTIPART, "does not end"),
        (b"--xyz\r\nno head--xyz--", MULTIPART, "does not end"),
        (b"--xyz\r\nno head\r\n--xyz--", MULTIPART, "has no head"),
        (part("Content-Type: text/plain", b"1") + b"--xyz--", MULTIPART, "no Content-Disposition"),
        (part('Content-Disposition: attachment; name="a"', b"1") + b"--xyz--", MULTIPART, "no Content-Disposition"),
        (part(f"X: {'y' * 9000}", b"1") + b"--xyz--", MULTIPART, "has no head of at most"),
    ],
)
def test_what_is_no_multipart_body_is_refused(body: bytes, content_type: str, reason: str) -> None:
    with pytest.raises(MalformedRequest, match=reason):
        read_form(body, content_type)


def test_the_number_of_fields_is_bounded() -> None:
    one = part('Content-Disposition: form-data; name="a"', b"1")
    assert len(read_form(one * MAX_FIELDS + b"--xyz--", MULTIPART)) == MAX_FIELDS
    with pytest.raises(TooLarge):
        read_form(one * (MAX_FIELDS + 1) + b"--xyz--", MULTIPART)
    with pytest.raises(TooLarge):
        read_form(b"&".join([b"a=1"] * (MAX_FIELDS + 1)), "application/x-www-form-urlencoded")


def test_urlencoded_fields_are_decoded() -> None:
    body = b"a=1+2&b%20c=%00%ff&d&&e=f=g"
    fields = read_form(body, "application/x-www-form-urlencoded; charset=utf-8")
    assert fields == [
        Field("a", b"1 2", None), Field("b c", b"\x00\xff", None), Field("d", b"", None), Field("e", b"f=g", None)
    ]  # fmt: skip


def test_types_are_told_apart() -> None:
    assert is_form("Multipart/Form-Data; boundary=x")
    assert is_form("application/x-www-form-urlencoded")
    assert not is_form("application/json")
    assert not is_form("")
    assert media_type_of(" Text/Plain ; charset=x") == "text/plain"
