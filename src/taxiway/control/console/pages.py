"""The console's files, and a page without scripts.

All files are read once and answered from memory: what is not among them is not there, whatever a path says.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from taxiway import __version__
from taxiway.control.callers import Callers
from taxiway.control.console.feed import Feed
from taxiway.core.errors import RouteNotFound

STATIC: Final = Path(__file__).parent / "static"
_INDEX: Final = "index.html"
_HASHED: Final = "assets/"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_WORTH_BYTES: Final = 500
"""Files below that are not worth compressing."""
_PLAIN: Final = frozenset({".html", ".js", ".css", ".svg", ".json", ".webmanifest", ".txt"})
_NOT_BUILT: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>taxiway</title>
<h1>The console is not built</h1>
<p>This is a source tree: <code>make console</code> builds the pages (it needs Node), and every wheel holds them.</p>
<p><a href="/console/plain">The page without scripts</a> works, and so does the API below <code>/v1</code>.</p></html>
"""


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str
    caching: str


class _Files:
    """The files below a directory, by their paths in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def all(self) -> Mapping[str, _File]:
        """Read when they are first asked for."""
        found = (path for path in sorted(self._directory.rglob("*")) if path.is_file())
        return {path.relative_to(self._directory).as_posix(): _read(path, self._directory) for path in found}


def page_routes(callers: Callers, feed: Feed | None, static: Path = STATIC) -> list[BaseRoute]:
    """All of them."""
    pages = _Pages(callers, feed, _Files(static))
    return [
        Route("/", pages.lead, methods=["GET"]),
        Route("/console", pages.lead, methods=["GET"]),
        Route("/console/plain", pages.plain, methods=["GET"]),
        Route("/console/{path:path}", pages.file, methods=["GET"]),
    ]


class _Pages:
    def __init__(self, callers: Callers, feed: Feed | None, files: _Files) -> None:
        self._callers = callers
        self._feed = feed
        self._files = files

    async def lead(self, _request: Request) -> Response:
        """To where the console is."""
        return RedirectResponse("/console/", 302, dict(_HEADERS))

    async def file(self, request: Request) -> Response:
        """A file, or the page that knows what to show at this address.

        Raises:
            RouteNotFound: it is no page that is asked for, and not there.
        """
        path, files = request.path_params["path"], self._files.all
        found = files.get(path or _INDEX)
        if found is None and (path.startswith(_HASHED) or Path(path).suffix in (".js", ".css", ".map")):
            raise RouteNotFound(f"there is no {request.url.path}", hint="load the page anew: the server is another one")
        found = found or files.get(_INDEX)
        return _page(_NOT_BUILT, 503) if found is None else _answer(request, found)

    async def plain(self, request: Request) -> Response:
        """How everything stands, as a table."""
        self._callers.check(request, "read", None)
        rows = [] if self._feed is None else self._feed.versions()
        lines = ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in _table(rows)]
        head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
        text = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>taxiway {__version__}</title>'
            f"<h1>taxiway {__version__}</h1><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(lines)}</tbody></table>"
            '<p><a href="/console/">The console</a> needs JavaScript.</p></html>\n'
        )
        return _page(text)


_COLUMNS: Final = ("model", "version", "ready", "requests/s", "failures/s", "p50 ms", "p99 ms", "pending")
_Rows = list[tuple[str, str, list[float | None]]]


def _table(rows: _Rows) -> list[tuple[str, ...]]:
    told: list[tuple[str, ...]] = []
    for model, version, values in rows:
        rps, eps, _, _, _, pending, ready, p50, _, p99 = values[:10]
        said = (
            "yes" if ready else "no",
            _number(rps),
            _number(eps),
            _number(p50, 1e3),
            _number(p99, 1e3),
            _number(pending),
        )
        told.append((model, version, *said))
    return told


def _number(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:.4g}"


def _page(text: str, status: int = 200) -> Response:
    return Response(text, status, {**_HEADERS, "Cache-Control": "no-store"}, "text/html")


def _answer(request: Request, file: _File) -> Response:
    headers = {**_HEADERS, "ETag": file.etag, "Cache-Control": file.caching, "Vary": "Accept-Encoding"}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if file.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, 200, {**headers, "Content-Encoding": "gzip"}, file.media_type)
    return Response(file.content, 200, headers, file.media_type)


def _read(path: Path, directory: Path) -> _File:
    content = path.read_bytes()
    hashed = path.relative_to(directory).as_posix().startswith(_HASHED)
    small = len(content) < _WORTH_BYTES or path.suffix not in _PLAIN
    return _File(
        content,
        None if small else gzip.compress(content, 9, mtime=0),
        _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        f'"{hashlib.sha256(content).hexdigest()[:20]}"',
        _FOR_EVER if hashed else "no-cache",
    )


_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}
