"""Heads: what is refused because two readers could disagree on it, what keeps a connection, and the table of heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.core.errors import HeaderTooLarge, InvalidArgument, MalformedHttp, TaxiwayError, Unsupported
from taxiway.server.wire import heads
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.heads import Head, HeadReader, check_beginning
from taxiway.server.wire.routes import Route, RouteTable


def _handler(_exchange: Exchange) -> None:
    raise AssertionError


def _reader(max_headers: int = 100) -> HeadReader:
    routes = [Route(method, "/v2/models/{model}", _handler, "") for method in ("GET", "POST")]
    return HeadReader(RouteTable(routes), max_headers)


def _read(*lines: bytes, first: bytes = b"POST /v2/models/m HTTP/1.1", host: bytes = b"Host: h") -> Head:
    return _reader().read(b"\r\n".join([first, *([host] if host else []), *lines, b"", b""]))


SMUGGLING = {
    "length-and-chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    "chunked-and-length": b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    "two-equal-lengths": b"Content-Length: 5\r\nContent-Length: 5",
    "two-lengths": b"Content-Length: 5\r\nContent-Length: 6",
    "list-of-lengths": b"Content-Length: 5, 5",
    "signed-length": b"Content-Length: +5",
    "negative-length": b"Content-Length: -1",
    "hexadecimal-length": b"Content-Length: 0x5",
    "empty-length": b"Content-Length:",
    "length-over-64-bits": b"Content-Length: 99999999999999999999999",
    "gzip-coding": b"Transfer-Encoding: gzip",
    "gzip-then-chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked-then-gzip": b"Transfer-Encoding: chunked, gzip",
    "chunked-twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "identity-coding": b"Transfer-Encoding: identity",
    "almost-chunked": b"Transfer-Encoding: xchunked",
    "vertical-tab": b"Transfer-Encoding: \x0bchunked",
    "empty-coding": b"Transfer-Encoding:",
    "folded-line": b"X: a\r\n b",
    "folded-framing": b"Transfer-Encoding:\r\n chunked",
    "bare-line-feed": b"X: a\nContent-Length: 5",
    "bare-carriage-return": b"X: a\rContent-Length: 5",
    "second-request-behind-a-bare-line-feed": b"\nGET /v2/models/evil HTTP/1.1\r\nHost: h",
    "nul": b"X: a\0b",
    "space-before-colon": b"Content-Length : 5",
    "no-name": b": x",
    "space-in-name": b"Bad Name: x",
    "two-hosts": b"Host: other",
    "two-json-lengths": b"Inference-Header-Content-Length: 1\r\nInference-Header-Content-Length: 2",
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_framing_that_two_readers_could_disagree_on_is_refused(lines: bytes) -> None:
    with pytest.raises((MalformedHttp, Unsupported)):
        _read(lines)


@pytest.mark.parametrize(
    "first",
    [
        b"GET /v2",
        b"GET /v2/models/m HTTP/2.0",
        b"PRI * HTTP/2.0",
        b"GET /v2/models/m HTTP/1.1 ",
        b"get /v2/models/m HTTP/1.1",
        b"NONSENSE /v2/models/m HTTP/1.1",
        b"GET /v2/models/m\x01 HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
        b"",
    ],
)
def test_request_lines_that_are_not_http_1_are_refused(first: bytes) -> None:
    with pytest.raises(MalformedHttp):
        _read(first=first)


def test_only_http_1_0_may_leave_out_the_host() -> None:
    with pytest.raises(MalformedHttp, match="Host"):
        _read(host=b"")
    assert _read(first=b"GET /v2/models/m HTTP/1.0", host=b"").match.params == {"model": "m"}


def test_http_1_0_knows_neither_chunks_nor_expectations() -> None:
    first = b"POST /v2/models/m HTTP/1.0"
    with pytest.raises(MalformedHttp, match=r"1\.0"):
        _read(b"Transfer-Encoding: chunked", first=first)
    assert not _read(b"Expect: 100-continue", b"Content-Length: 3", first=first).expects_continue
    assert _read(b"Expect: 100-Continue", b"Content-Length: 3").expects_continue


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: keep-alive", True),
        (b"1.1", b"Connection: Upgrade", True),
        (b"1.1", b"Connection: close", False),
        (b"1.1", b"Connection: Close", False),
        (b"1.1", b"Connection: keep-alive, close", False),
        (b"1.1", b"Connection: close\r\nConnection: keep-alive", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive", True),
        (b"1.0", b"Connection: Keep-Alive", True),
        (b"1.0", b"Connection: keep-alive, close", False),
    ],
)
@pytest.mark.parametrize("length", [b"", b"Content-Length: 0", b"Content-Length: 3"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_keeps_a_connection(version: bytes, connection: bytes, kept: bool, length: bytes, method: bytes) -> None:
    """Whether there is a body must not matter: the parser forgets "close" where a message ends with its head."""
    lines = [line for line in (connection, length) if line]
    assert _read(*lines, first=method + b" /v2/models/m HTTP/" + version).keep_alive is kept


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (b"/v2/models/m", "m"),
        (b"/v2/models/m?a=/v2/models/n", "m"),
        (b"http://host/v2/models/m", "m"),
        (b"http://host:80/v2/models/m?x", "m"),
        (b"/v2/models/a%2Fb", "a%2Fb"),
        (b"http://host", None),
        (b"*", None),
    ],
)
def test_targets(target: bytes, model: str | None) -> None:
    head = _read(first=b"GET " + target + b" HTTP/1.1")
    assert head.match.params.get("model") == model
    assert (head.match.route is None) is (model is None)


def test_framing() -> None:
    assert _read().content_length == 0
    assert _read(b"Content-Length: 007").content_length == 7
    assert _read(b"content-LENGTH:\t12 ").content_length == 12
    assert _read(b"Transfer-Encoding: Chunked").content_length == -1
    assert _read(b"Inference-Header-Content-Length: 0").json_length == 0
    assert _read().json_length is None
    assert _read(b"Upgrade: h2c", b"Connection: Upgrade", b"Content-Length: 3").content_length == 3
    assert _read(first=b"HEAD /v2/models/m HTTP/1.1").is_head


@pytest.mark.parametrize("value", [b"-1", b"1.5", b"1e3", b"x", b"9" * 19, b"", b"\xb2"])
def test_a_json_length_that_is_no_count_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidArgument, match="Inference-Header-Content-Length"):
        _read(b"Inference-Header-Content-Length: " + value)


def test_request_timeouts() -> None:
    assert _read(b"Request-Timeout: 0.25").timeout_ns == 250_000_000
    assert _read().timeout_ns == 0
    for value in (b"0", b"-1", b"nan", b"inf", b"86401", b"soon"):
        with pytest.raises(InvalidArgument, match="Request-Timeout"):
            _read(b"Request-Timeout: " + value)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (b"gzip", "gzip"),
        (b"deflate, gzip", "gzip"),
        (b"gzip;q=0.5, deflate;q=0.8", "deflate"),
        (b"gzip;q=0", ""),
        (b"br", ""),
        (b"*", "gzip"),
        (b"*;q=0", ""),
        (b"gzip;q=0, *", "deflate"),
        (b"identity, gzip;q=0.2", ""),
        (b"gzip;q=half", ""),
        (b"GZIP", "gzip"),
    ],
)
def test_accepted_codings(accept: bytes, coding: str) -> None:
    assert _read(b"Accept-Encoding: " + accept).accepts == coding


def test_the_number_of_header_lines_is_bounded_and_the_refusal_names_the_limit() -> None:
    reader = _reader(max_headers=3)
    start = b"GET /v2/models/m HTTP/1.1\r\nHost: h\r\n"
    reader.read(start + b"A: 1\r\nB: 2\r\n\r\n")
    with pytest.raises(HeaderTooLarge, match=r"limits\.max_headers"):
        reader.read(start + b"A: 1\r\nB: 2\r\nC: 3\r\n\r\n")
    with pytest.raises(HeaderTooLarge):  # repeated names count
        reader.read(start + b"A: 1\r\nA: 2\r\nA: 3\r\n\r\n")


@pytest.mark.parametrize("part", [b"G", b"GET /v2 HTTP/1.1", b"GET / HTTP/1.1\r\nHost: h\r", b"\r", b"\r\n\r"])
def test_what_may_still_become_a_head_is_waited_for(part: bytes) -> None:
    check_beginning(part, 0)
    check_beginning(b"xyz\n" + part, 4)


@pytest.mark.parametrize(
    "part",
    [b"\x16\x03\x01", b" GET", b"get", b"\n", b"\0", b"GET / HTTP/1.1\nHost: h\n\n", b"GET / HTTP/1.1\r\nA: b\n"],
)
def test_what_can_not_become_a_head_is_refused_at_once(part: bytes) -> None:
    with pytest.raises(MalformedHttp):
        check_beginning(part, 0)
    with pytest.raises(MalformedHttp):
        check_beginning(b"xyz\n" + part, 4)


# --- the table -----------------------------------------------------------------------------------------


def test_the_same_bytes_are_judged_once() -> None:
    reader = _reader()
    raw = b"GET /v2/models/m HTTP/1.1\r\nHost: h\r\n\r\n"
    assert reader.read(raw) is reader.read(bytes(bytearray(raw)))


def test_the_table_is_bounded() -> None:
    reader = _reader()
    for number in range(3 * heads._KEPT_HEADS):
        head = reader.read(b"GET /v2/models/m%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
        assert head.match.params == {"model": f"m{number}"}
        assert len(reader._kept) <= heads._KEPT_HEADS


def test_long_heads_and_unknown_paths_are_not_kept() -> None:
    reader = _reader()
    reader.read(b"GET /v2/models/m HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"x" * heads._KEPT_HEAD_BYTES))
    reader.read(b"GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n")
    reader.read(b"DELETE /v2/models/m HTTP/1.1\r\nHost: h\r\n\r\n")
    assert not reader._kept


def test_what_was_refused_is_refused_again() -> None:
    reader = _reader()
    for _ in range(2):
        with pytest.raises(MalformedHttp):
            reader.read(b"GET /v2/models/m HTTP/1.1\r\n\r\n")
    assert not reader._kept


_LINES = st.sampled_from(
    [
        b"Host: h",
        b"Host: i",
        b"Content-Length: 3",
        b"Content-Length: 4",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Content-Encoding: gzip",
        b"Accept-Encoding: gzip",
        b"Inference-Header-Content-Length: 2",
        b"Request-Timeout: 1",
        b"X: y",
        b" folded",
    ]
)
_RAW = st.builds(
    lambda method, model, version, lines: b"\r\n".join(
        [b"%b /v2/models/%b HTTP/1.%b" % (method, model, version), *lines, b"", b""]
    ),
    st.sampled_from([b"GET", b"POST", b"PUT"]),
    st.sampled_from([b"m", b"n"]),
    st.sampled_from([b"0", b"1"]),
    st.lists(_LINES, max_size=4),
)


def _said(reader: HeadReader, raw: bytes) -> object:
    try:
        head = reader.read(raw)
    except TaxiwayError as error:
        return type(error), error.message
    match = (head.match.params, head.match.route and head.match.route.method)
    return [match, *(getattr(head, name) for name in Head.__slots__ if name != "match")]


@given(st.lists(_RAW, min_size=2, max_size=20))
def test_a_reader_with_a_past_says_the_same_as_a_new_one(requests: list[bytes]) -> None:
    experienced = _reader()
    for raw in requests:
        assert _said(experienced, raw) == _said(_reader(), raw)
