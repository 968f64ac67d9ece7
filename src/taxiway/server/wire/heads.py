"""A request's head, parsed once: kept-alive clients send the same bytes again and again.

llhttp (through httptools) judges every head the first time its exact bytes are seen; an accepted one is kept, with
its route and its framing, in a bounded table. Nothing is trusted that llhttp has not accepted, and the common
request costs one dictionary look-up instead of ten callbacks.
"""

from __future__ import annotations

import httptools

from taxiway.core.errors import HeaderTooLarge, InvalidArgument, MalformedHttp, TaxiwayError, Unsupported
from taxiway.server.wire.routes import Match, RouteTable

_KEPT_HEADS = 2048
_KEPT_HEAD_BYTES = 2048
_ONLY_ONCE = frozenset({b"host", b"content-length", b"transfer-encoding", b"inference-header-content-length"})


class Head:
    """What the head of one request says. Immutable by convention: shared by every request with these bytes.

    Attributes:
        content_length: bytes of the body; 0 if there is none; -1 if it is chunked.
        json_length: value of Inference-Header-Content-Length; None if absent.
        encodings: content codings of the body, in the order applied.
        timeout_ns: the caller's Request-Timeout (seconds) in nanoseconds; 0 if absent.
        method, path: of the request line, the path without its query; for the log.
        caller: name of the caller's API key; empty if none was asked for.
        passed: the keys under which the guard let it pass; None if it did not.
        refusal: why its caller may not ask this; None if they may.
        takes_chunks: whether the caller understands a body in chunks (HTTP/1.1).
    """

    __slots__ = (
        "accepts",
        "caller",
        "content_length",
        "encodings",
        "expects_continue",
        "headers",
        "is_head",
        "json_length",
        "keep_alive",
        "match",
        "method",
        "passed",
        "path",
        "refusal",
        "takes_chunks",
        "timeout_ns",
    )

    def __init__(self, match: Match, headers: dict[bytes, bytes], *, keep_alive: bool) -> None:
        self.match = match
        self.headers = headers
        self.keep_alive = keep_alive
        self.is_head = False
        self.content_length = 0
        self.json_length: int | None = None
        self.encodings: tuple[bytes, ...] = ()
        self.accepts = ""
        self.expects_continue = False
        self.timeout_ns = 0
        self.method = self.path = self.caller = ""
        self.passed: object = None
        self.refusal: TaxiwayError | None = None
        self.takes_chunks = True


class HeadReader:
    """Turns the bytes of a head (through its empty line) into a `Head`.

    Args:
        routes: where its path leads.
        max_headers: header lines allowed.
    """

    def __init__(self, routes: RouteTable, max_headers: int) -> None:
        self._routes = routes
        self._max_headers = max_headers
        self._kept: dict[bytes, Head] = {}

    def read(self, raw: bytes) -> Head:
        """The head these bytes say.

        Raises:
            MalformedHttp: not HTTP/1.x, or framed in two ways at once (request smuggling).
            HeaderTooLarge: more header lines than allowed.
            Unsupported: a transfer coding other than chunked.
        """
        head = self._kept.get(raw)
        if head is None:
            head = self._parse(raw)
            self._keep(raw, head)
        return head

    def forget_routes(self) -> None:
        """Drop what the endpoints remember of routes that hold no more: it keeps closed models in memory."""
        for head in self._kept.values():
            head.match.memo = None

    def _keep(self, raw: bytes, head: Head) -> None:
        if len(raw) <= _KEPT_HEAD_BYTES and not head.match.unkept:
            if len(self._kept) >= _KEPT_HEADS:
                self._kept.clear()
            self._kept[raw] = head

    def _parse(self, raw: bytes) -> Head:
        lines = _Lines(self._max_headers)
        parser = httptools.HttpRequestParser(lines)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # an offer, not a demand: answering in HTTP/1.1 declines it
        except httptools.HttpParserError as problem:
            cause = problem.__context__
            if isinstance(cause, HeaderTooLarge | MalformedHttp):
                raise cause from None
            raise MalformedHttp(f"the request's head is not HTTP/1.1: {problem}") from problem
        method = parser.get_method()
        version = parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise MalformedHttp(f"HTTP version {version!r} is not 1.0 or 1.1")
        if version == "1.1" and b"host" not in lines.headers:
            raise MalformedHttp("an HTTP/1.1 request needs a Host header")
        path = _path_of(lines.target)
        match = self._routes.find(method, path)
        head = Head(match, lines.headers, keep_alive=_keeps_alive(lines.headers, version))
        head.method, head.path = method.decode("latin-1"), path
        head.is_head = method == b"HEAD"
        _frame(head, version)
        return head


class _Lines:
    """Collects what the parser calls back with."""

    def __init__(self, max_headers: int) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self._left = max_headers

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise HeaderTooLarge("the request has more header lines than limits.max_headers allows")
        name = name.lower()
        if name not in self.headers:
            self.headers[name] = value.strip()
        elif name in _ONLY_ONCE:
            raise MalformedHttp(f"header {name.decode('latin-1')!r} is given twice")
        else:
            self.headers[name] += b", " + value.strip()


def _path_of(target: bytes) -> str:
    """The path of an origin-form or absolute-form target, without query."""
    if not target.startswith(b"/"):
        _, _, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2] if rest else target
    return target.partition(b"?")[0].decode("latin-1")


def _keeps_alive(headers: dict[bytes, bytes], version: str) -> bool:
    """RFC 9112 9.3. The parser cannot be asked: it forgets what it knew at the end of a message without a body."""
    options = [option.strip() for option in headers.get(b"connection", b"").lower().split(b",")]
    return b"close" not in options and (version == "1.1" or b"keep-alive" in options)


def check_beginning(data: bytes, position: int) -> None:
    """Part of a head is at `position` of `data`: refuse it now if the rest could not make it HTTP.

    Raises:
        MalformedHttp: it does not begin with a method (TLS, for one), or a line ends without a carriage return.
    """
    first = data[position]
    bare = data.count(b"\n", position) - data.count(b"\r\n", position)
    if bare or not (0x41 <= first <= 0x5A or first == 0x0D):
        raise MalformedHttp("the request does not begin as HTTP/1.1 does", hint="this port speaks HTTP, not HTTPS")


def _frame(head: Head, version: str) -> None:
    headers = head.headers
    coding = headers.get(b"transfer-encoding")
    if coding is not None:
        if version == "1.0":
            raise MalformedHttp("an HTTP/1.0 request cannot have a Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise Unsupported(f"transfer-encoding {coding.decode('latin-1')!r} is not supported; only 'chunked' is")
        head.content_length = -1
    elif length := headers.get(b"content-length"):
        head.content_length = int(length)
    head.takes_chunks = version != "1.0"
    head.expects_continue = version != "1.0" and headers.get(b"expect", b"").lower() == b"100-continue"
    head.accepts = _preferred_coding(headers.get(b"accept-encoding", b""))
    if encoding := headers.get(b"content-encoding"):
        codings = tuple(part.strip().lower() for part in encoding.split(b","))
        head.encodings = () if codings in ((b"",), (b"identity",)) else codings
    head.json_length = _json_length(headers.get(b"inference-header-content-length"))
    head.timeout_ns = _timeout_ns(headers.get(b"request-timeout"))


def _json_length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > 18:
        raise InvalidArgument(
            f"header Inference-Header-Content-Length is {value.decode('latin-1')!r}; "
            "it counts the bytes of the body's JSON part"
        )
    return int(value)


def _timeout_ns(value: bytes | None) -> int:
    if value is None:
        return 0
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        raise InvalidArgument(
            f"header Request-Timeout is {value.decode('latin-1')!r}; it is a number of seconds, over 0, at most 86400"
        )
    return int(seconds * 1e9)


def _preferred_coding(accept: bytes) -> str:
    """The coding to answer with, by the caller's weights: "gzip", "deflate", or "" for none."""
    if not accept:
        return ""
    weights: dict[str, float] = {}
    for part in accept.decode("latin-1").lower().split(","):
        name, _, parameters = part.partition(";")
        weights[name.strip()] = _weight(parameters)
    wildcard = weights.get("*", 0.0)
    gzip, deflate = weights.get("gzip", wildcard), weights.get("deflate", wildcard)
    identity = weights.get("identity", 0.0)
    best = max(gzip, deflate)
    if best <= 0 or best < identity:
        return ""
    return "gzip" if gzip >= deflate else "deflate"


def _weight(parameters: str) -> float:
    text = parameters.strip()
    if not text.startswith("q="):
        return 1.0
    try:
        return float(text[2:])
    except ValueError:
        return 0.0
