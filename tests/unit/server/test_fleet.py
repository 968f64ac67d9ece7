"""A fleet of one does what it is asked as a fleet of several would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from taxiway.core.errors import InvalidModel
from taxiway.server.fleet import Alone
from taxiway.testing import run_virtual


async def _load(words: Mapping[str, Any]) -> str:
    await asyncio.sleep(1)
    if words["model"] == "broken":
        raise InvalidModel("it is broken")
    loaded.append(words["model"])
    return "loaded"


loaded: list[str] = []


def test_what_was_begun_is_finished_though_whoever_asked_has_gone() -> None:
    async def main() -> None:
        loaded.clear()
        fleet = Alone({"load": _load})
        asked = [asyncio.ensure_future(fleet.ask("load", {"model": name})) for name in ("m", "broken")]
        await asyncio.sleep(0.5)
        for call in asked:
            call.cancel()
        await asyncio.sleep(1)
        assert all(call.cancelled() for call in asked)
        assert loaded == ["m"]

    run_virtual(main)


def test_whoever_asks_is_told() -> None:
    async def main() -> None:
        fleet = Alone({"load": _load})
        assert await fleet.ask("load", {"model": "m"}) == ["loaded"]
        with pytest.raises(InvalidModel):
            await fleet.ask("load", {"model": "broken"})

    run_virtual(main)
