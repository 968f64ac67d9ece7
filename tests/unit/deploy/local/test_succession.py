"""One server that hands everything to another: real processes, which stop at each point of the way."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from taxiway.config.settings import Settings
from taxiway.core.errors import Unavailable
from taxiway.deploy.local import succession
from taxiway.deploy.local.control import ControlKeeper
from taxiway.deploy.local.doors import Doors
from taxiway.deploy.local.relay import Relay
from taxiway.deploy.local.succession import Succession
from taxiway.server.channel import Channel
from taxiway.server.fleet import Lasting

_NEW_SERVER = """
import asyncio, os, sys
from taxiway.deploy.local.succession import Predecessor
async def main():
    found = await Predecessor.of(os.environ)
    assert [words for _, _, words in found.kept] == [{"name": "a", "file": b"bytes"}], found.kept
    for step in sys.argv[1].split():
        if step == "steering":
            assert [words for _, _, words in await found.steering()] == [{"service": "a"}]
        elif step == "serving":
            await found.serving()
    sys.exit(3)
asyncio.run(main())
"""


class Control:
    """What becomes of the control process."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def end(self) -> None:
        self.told.append("end")

    def resume(self) -> None:
        self.told.append("resume")


class Worker:
    """Does whatever it is asked."""

    async def ask(self, verb: str, words: object, timeout_s: float | None = None) -> None:
        del verb, words, timeout_s


class Old:
    """A server that was told of one model and of who gets traffic."""

    def __init__(self, doors: Doors) -> None:
        self.control = Control()
        self.left: list[int] = []
        self.relay = Relay(lambda: None, self._at_once)
        keeper = cast("ControlKeeper", self.control)
        self.succession = Succession(_settings(), doors, self.relay, keeper, self.left.append)

    async def _at_once(self) -> None:
        """There is nobody before it."""

    async def begin(self) -> None:
        """One worker, which is told something."""

        async def opened() -> None:
            """Its ports."""

        await self.relay.admit(0, cast("Channel", Worker()), opened)
        await self.load("a")
        await self.steer()

    async def load(self, name: str) -> None:
        words = {"name": name, "file": b"bytes"}
        await self.relay.ask(0, {"verb": "load", "words": words, "lasting": {"what": "models", "name": name}})

    async def steer(self) -> None:
        words = {"service": "a"}
        await self.relay.ask(0, {"verb": "traffic_set", "words": words, "lasting": {"what": "traffic", "name": "a"}})

    async def upgraded(self, *states: str) -> None:
        async with asyncio.timeout(30):
            while self.succession.told()["upgrade"]["state"] not in states:  # noqa: ASYNC110 - another process's doing
                await asyncio.sleep(0.01)


def _settings() -> Settings:
    ports = {"http": {"port": 0}, "grpc": {"port": 0}, "metrics": {"port": 0}, "control": {"port": 0}}
    return Settings.model_validate(ports)


def _run(monkeypatch: pytest.MonkeyPatch, steps: str, test: Callable[[Old], Awaitable[None]]) -> None:
    monkeypatch.setattr(succession, "command_line", lambda: [sys.executable, "-c", _NEW_SERVER, steps])

    async def run() -> None:
        doors = Doors(_settings())
        try:
            old = Old(doors)
            await old.begin()
            await test(old)
        finally:
            doors.release()

    asyncio.run(run())


@pytest.mark.parametrize(("steps", "control"), [("", []), ("steering", ["end", "resume"])])
def test_one_that_ends_before_it_serves_gives_back_what_it_took(
    monkeypatch: pytest.MonkeyPatch, steps: str, control: list[str]
) -> None:
    async def test(old: Old) -> None:
        await old.succession.begin()
        await old.upgraded("failed")
        assert "it ended with status 3" in old.succession.told()["upgrade"]["error"]
        assert old.control.told == control
        assert old.left == []
        await old.load("b")
        await old.steer()
        await old.succession.begin()  # and it may be tried again
        await old.upgraded("failed")

    _run(monkeypatch, steps, test)


def test_once_another_serves_nothing_is_changed_here_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(old: Old) -> None:
        await old.succession.begin()
        await old.upgraded("serving")
        assert old.control.told == ["end"]
        assert len(old.left) == 1
        for change in (old.load("b"), old.steer()):
            with pytest.raises(Unavailable, match="is being replaced"):
                await change
        while Path(f"/proc/{old.left[0]}").exists():  # noqa: ASYNC110, ASYNC240 - another process's doing
            await asyncio.sleep(0.01)

    _run(monkeypatch, "steering serving", test)


def test_what_was_kept_is_kept_by_the_next_one_too() -> None:
    async def test() -> None:
        async def at_once() -> None:
            """Nobody is before it."""

        relay = Relay(lambda: None, at_once)
        instruction = (Lasting("models", "a"), "load", {"name": "a"})
        relay.inherit([instruction])
        assert await relay.hand_over(quick=False) == [instruction]
        assert await relay.hand_over(quick=True) == []

    asyncio.run(test())
