"""The console's part of the control port in this process: pages, sessions of browsers, streams that nobody reads."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from email.message import Message
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from socket import create_server
from typing import Any, NamedTuple

import pytest
import uvloop
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from tests.support.keys import write_keys
from tests.support.raw_http import PATIENCE_S, Raw, request, wait_until

from taxiway.control.app import make_app
from taxiway.control.callers import Callers
from taxiway.control.console import streams as streams_module
from taxiway.control.console.frames import frame
from taxiway.control.console.pages import page_routes
from taxiway.control.console.signing_in import session_routes
from taxiway.control.console.streams import Streams, stream_routes
from taxiway.control.http_port import ControlPort
from taxiway.control.names import Names
from taxiway.control.sessions import Sessions
from taxiway.core.clock import SystemClock
from taxiway.server.guard import Guard

CONSOLE = {"X-Taxiway-Console": "1"}


class Told(NamedTuple):
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def serving(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, Callable[[Callable[[], object]], object]]]:
    """A port with these routes: its URL, and what has something done in its loop."""
    held = create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{held.getsockname()[1]}"
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        stop = asyncio.Event()
        port = ControlPort(make_app(list(routes), Names("127.0.0.1", ()), None), None)
        await port.open([held])
        ready.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()
        await port.close()

    thread = threading.Thread(target=lambda: uvloop.run(run()))
    thread.start()
    loop, stop = ready.result(PATIENCE_S)
    try:
        yield url, loop.call_soon_threadsafe
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def ask(url: str, method: str = "GET", body: object = None, headers: dict[str, str] | None = None) -> Told:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, headers or {}, method=method)  # noqa: S310 - our own
    try:
        with urllib.request.build_opener(_Stay()).open(asked, timeout=PATIENCE_S) as got:
            return Told(got.status, got.headers, got.read())
    except urllib.error.HTTPError as problem:
        with problem:
            return Told(problem.code, problem.headers, problem.read())


# --- pages ---------------------------------------------------------------------------------------------------


@pytest.fixture
def static(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><title>console</title>" + "x" * 1000)
    (tmp_path / "assets" / "main.3f2a.js").write_text("export const one = 1;\n" * 100)
    return tmp_path


def test_pages_are_served_strictly_and_deep_links_lead_to_the_same_one(static: Path) -> None:
    with serving(page_routes(Callers(None), None, static)) as (url, _):
        assert ask(f"{url}/").headers["location"] == "/console/"
        index = ask(f"{url}/console/")
        assert index.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert index.headers["x-content-type-options"] == "nosniff"
        assert index.headers["cache-control"] == "no-cache"
        assert ask(f"{url}/console/models/fraud").body == index.body
        again = ask(f"{url}/console/", headers={"If-None-Match": index.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        script = ask(f"{url}/console/assets/main.3f2a.js", headers={"Accept-Encoding": "gzip"})
        assert script.headers["content-type"].startswith("text/javascript")
        assert script.headers["content-encoding"] == "gzip"
        assert "immutable" in script.headers["cache-control"]
        assert ask(f"{url}/console/assets/gone.js").status == 404
        for path in ("/console/../pages.py", "/console/%2e%2e/pages.py", "/console/assets/..%2f..%2fpages.py"):
            assert b"import" not in ask(url + path).body


def test_a_source_tree_says_how_pages_are_built(tmp_path: Path) -> None:
    with serving(page_routes(Callers(None), None, tmp_path / "nothing")) as (url, _):
        told = ask(f"{url}/console/")
        assert told.status == 503
        assert b"make console" in told.body
        assert b"<table>" in ask(f"{url}/console/plain").body


# --- sessions ------------------------------------------------------------------------------------------------


def _guarded(tmp_path: Path) -> tuple[list[BaseRoute], Path]:
    keys = write_keys(tmp_path / "keys.yaml", ana="read,rollout", shop="infer:dou*")
    guard = Guard(keys, SystemClock())
    sessions = Sessions(tmp_path / "monitoring" / "console.secret", SystemClock(), secure=False)
    callers = Callers(guard, sessions)

    async def act(request: Request) -> Response:
        return JSONResponse({"name": str(callers.check(request, "read", None))})

    return [*session_routes(callers, sessions), Route("/act", act, methods=["GET", "POST"])], keys


def _signed_in(url: str, key: str = "key-ana") -> dict[str, str]:
    told = ask(f"{url}/v1/console/session", "POST", {"key": key}, CONSOLE)
    assert told.status == 200
    (morsel,) = SimpleCookie(told.headers["set-cookie"]).values()
    assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "strict", "/")
    return {"Cookie": f"{morsel.key}={morsel.value}"}


def test_a_browser_signs_in_with_a_key_and_its_cookie_outlives_the_process(tmp_path: Path) -> None:
    routes, _ = _guarded(tmp_path)
    with serving(routes) as (url, _):
        assert ask(f"{url}/v1/console/session").json()["caller"] is None
        assert ask(f"{url}/act").status == 401
        cookie = _signed_in(url)
        assert ask(f"{url}/act", headers=cookie).json() == {"name": "ana"}
        known = ask(f"{url}/v1/console/session", headers=cookie).json()
        assert known["caller"] == {"name": "ana", "scopes": ["read", "rollout"]}
        assert ask(f"{url}/act", "POST", {}, cookie).status == 403, "a form elsewhere sends no header"
        assert ask(f"{url}/act", "POST", {}, {**cookie, **CONSOLE}).status == 200
        assert ask(f"{url}/act", headers={**cookie, "Sec-Fetch-Site": "same-site"}).status == 403
        forged = {"Cookie": cookie["Cookie"][:-6] + "AAAAA="}
        assert ask(f"{url}/act", headers=forged).status == 401
        gone = ask(f"{url}/v1/console/session", "DELETE", None, {**cookie, **CONSOLE})
        assert "Max-Age=0" in gone.headers["set-cookie"]
        name, _, value = cookie["Cookie"].partition("=")
    assert (tmp_path / "monitoring" / "console.secret").stat().st_mode & 0o777 == 0o600
    routes, _ = _guarded(tmp_path)
    with serving(routes) as (url, _):
        port = url.rpartition(":")[2]
        assert ask(f"{url}/act", headers={"Cookie": f"taxiway_session_{port}={value}"}).status == 200
        assert name != f"taxiway_session_{port}"


def test_a_wrong_key_signs_nobody_in_and_one_that_is_taken_back_ends_its_sessions(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", ana="read")
    guard = Guard(keys, SystemClock())
    sessions = Sessions(tmp_path / "secret", SystemClock(), secure=False)
    callers = Callers(guard, sessions)

    async def act(request: Request) -> Response:
        return JSONResponse({"name": str(callers.check(request, "read", None))})

    with serving([*session_routes(callers, sessions), Route("/act", act)]) as (url, _):
        assert ask(f"{url}/v1/console/session", "POST", {"key": "nonsense"}, CONSOLE).status == 401
        assert ask(f"{url}/v1/console/session", "POST", {"key": "key-ana"}).status == 403
        cookie = _signed_in(url)
        assert ask(f"{url}/act", headers=cookie).status == 200
        write_keys(keys, bob="read")
        guard.reload()
        assert ask(f"{url}/act", headers=cookie).status == 401


# --- streams -------------------------------------------------------------------------------------------------


def _read(url: str) -> Any:
    return urllib.request.urlopen(f"{url}/v1/stream", timeout=PATIENCE_S)  # noqa: S310 - our own


async def _ready() -> None:
    return


def test_every_reader_is_sent_everything_and_then_what_changes() -> None:
    streams = Streams(_ready, lambda: frame("full", {"seq": 1}))
    with serving(stream_routes(Callers(None), streams)) as (url, do):
        with _read(url) as reader:
            assert reader.headers["content-type"] == "text/event-stream"
            assert [reader.readline() for _ in range(4)] == [
                b"retry: 1000\n",
                b"\n",
                b"event: full\n",
                b'data: {"seq":1}\n',
            ]
            do(lambda: streams.tell(frame("delta", {"seq": 2})))
            assert [reader.readline() for _ in range(3)][1:] == [b"event: delta\n", b'data: {"seq":2}\n']
            do(streams.close)
            assert reader.read() == b"\n"
        wait_until(lambda: len(streams) == 0, "it is counted no more")


def _done(do: Callable[[Callable[[], object]], object], what: Callable[[], object]) -> bool:
    do(what)
    return True


def test_who_does_not_read_is_cut_and_costs_nobody_else() -> None:
    streams = Streams(_ready, lambda: frame("full", {}))
    large = frame("delta", {"fill": "x" * 1_000_000})
    with serving(stream_routes(Callers(None), streams)) as (url, do):
        host, _, port = url.removeprefix("http://").rpartition(":")
        with Raw((host, int(port))) as slow:
            slow.send(request("GET", "/v1/stream").replace(b"Host: h", b"Host: localhost"))
            wait_until(lambda: len(streams) == 1, "it reads")
            wait_until(lambda: _done(do, lambda: streams.tell(large)) and streams.cut == 1, "it is cut")
            wait_until(lambda: len(streams) == 0, "and counted no more")
        with _read(url) as reader:
            assert reader.readline() == b"retry: 1000\n"
        wait_until(
            lambda: _done(do, lambda: streams.tell(b"\n\n")) and len(streams) == 0, "one that went away is noticed"
        )


def test_streams_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "MAX_STREAMS", 1)
    streams = Streams(_ready, lambda: frame("full", {}))
    with serving(stream_routes(Callers(None), streams)) as (url, _), _read(url):
        assert ask(f"{url}/v1/stream").json()["code"] == "overloaded"


def test_a_stream_outlasts_what_an_answer_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxiway.control.entrance.ANSWER_S", 0.3)
    monkeypatch.setattr("taxiway.control.entrance.READ_S", 0.2)
    streams = Streams(_ready, lambda: frame("full", {}))
    with serving(stream_routes(Callers(None), streams)) as (url, do), _read(url) as reader:
        for number in range(10):
            do(partial(streams.tell, frame("delta", {"tick": number})))
            while not reader.readline().startswith(b"data"):
                pass
            threading.Event().wait(0.1)
        assert streams.cut == 0
