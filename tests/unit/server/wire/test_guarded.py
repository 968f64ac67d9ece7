"""Guarded heads: the guard is asked once for the same bytes while the same keys are in force."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.support.keys import write_keys

from taxiway.core.errors import PermissionDenied, Unauthenticated
from taxiway.server.guard import Caller, Guard
from taxiway.server.wire.exchange import Exchange
from taxiway.server.wire.guarded import GuardedHeads
from taxiway.server.wire.heads import Head
from taxiway.server.wire.routes import OPEN, Route, RouteTable


class CountingGuard(Guard):
    asked = 0

    def check(self, authorization: str | None, scope: str, model: str | None) -> Caller:
        self.asked += 1
        return super().check(authorization, scope, model)


class Clock:
    def monotonic_ns(self) -> int:
        return 0

    def now_utc(self) -> dt.datetime:
        return dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def _handler(_exchange: Exchange) -> None:
    raise AssertionError


@pytest.fixture
def guard(tmp_path: Path) -> CountingGuard:
    return CountingGuard(write_keys(tmp_path / "keys.yaml", a="infer", b="read"), Clock())


@pytest.fixture
def heads(guard: CountingGuard) -> GuardedHeads:
    routes = [
        Route("POST", "/infer/{model}", _handler, "", scope="infer"),
        Route("GET", "/live", _handler, "", scope=OPEN),
        Route("GET", "/unsaid", _handler, ""),
    ]
    return GuardedHeads(RouteTable(routes), 100, guard)


def _raw(*lines: str, first: str = "POST /infer/m HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: h", *lines, "", ""]).encode()


def _kept(heads: GuardedHeads) -> int:
    return len(heads._kept)


def test_the_same_bytes_are_asked_about_once(heads: GuardedHeads, guard: CountingGuard) -> None:
    first = heads.read(_raw("X-API-Key: key-a", "Content-Length: 5"))
    assert (first.caller, first.refusal, first.method, first.path) == ("a", None, "POST", "/infer/m")
    assert heads.read(_raw("X-API-Key: key-a", "Content-Length: 5")) is first
    assert guard.asked == 1
    heads.read(_raw("X-API-Key: key-a", "Content-Length: 6"))
    assert guard.asked == 2


def test_other_keys_in_force_are_asked_again(heads: GuardedHeads, guard: CountingGuard, tmp_path: Path) -> None:
    heads.read(_raw("X-API-Key: key-a"))
    write_keys(tmp_path / "keys.yaml", a="read")
    guard.reload()
    assert isinstance(heads.read(_raw("X-API-Key: key-a")).refusal, PermissionDenied)
    write_keys(tmp_path / "keys.yaml", a="infer")
    guard.reload()
    assert heads.read(_raw("X-API-Key: key-a")).refusal is None


def test_a_refused_head_leads_to_its_refusal_and_is_not_kept(heads: GuardedHeads) -> None:
    def refusal(head: Head) -> object:
        with pytest.raises((Unauthenticated, PermissionDenied)) as told:
            head.match.handler(None)  # type: ignore[arg-type]  # it does not look
        assert told.value is head.refusal
        assert not head.match.decodes
        return type(told.value)

    assert refusal(heads.read(_raw())) is Unauthenticated
    assert refusal(heads.read(_raw("Authorization: Bearer guess"))) is Unauthenticated
    assert refusal(heads.read(_raw("Authorization: Bearer key-b"))) is PermissionDenied
    assert refusal(heads.read(_raw("X-API-Key: key-a", "X-API-Key: key-a"))) is Unauthenticated
    assert refusal(heads.read(_raw("X-API-Key: key-b", "Authorization: Bearer key-a"))) is PermissionDenied
    assert refusal(heads.read(_raw("Authorization: Bearer key-a", first="GET /unsaid HTTP/1.1"))) is PermissionDenied
    assert refusal(heads.read(_raw(first="GET /nowhere HTTP/1.1"))) is Unauthenticated
    assert _kept(heads) == 0


def test_what_is_open_asks_nobody(heads: GuardedHeads, guard: CountingGuard) -> None:
    head = heads.read(_raw("X-API-Key: nonsense", first="GET /live HTTP/1.1"))
    assert (head.refusal, head.caller, guard.asked, _kept(heads)) == (None, "", 0, 1)
