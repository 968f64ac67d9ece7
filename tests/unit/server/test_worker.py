"""A data-plane process, as far as it can be had without starting one."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from taxiway.server.app import DataPlane
from taxiway.server.sentinel import Sentinel
from taxiway.server.worker import Worker
from taxiway.telemetry.render import Point
from taxiway.telemetry.slots import SlotWriter, make_slot


class BrokenPlane:
    """Whose metrics cannot be told."""

    def points(self) -> Iterator[Point]:
        raise RuntimeError("a defect")


def test_a_defect_in_the_metrics_does_not_keep_it_from_ending(caplog: pytest.LogCaptureFixture) -> None:
    async def end() -> int:
        ours, theirs = socket.socketpair()
        sentinel, slot = Sentinel(theirs), make_slot()
        with ours, theirs, sentinel._watched:
            worker = Worker(theirs, sentinel)
            worker._plane, worker._slot = cast("DataPlane", BrokenPlane()), SlotWriter(slot)
            worker._end(0)
            os.close(slot)
            return await asyncio.wait_for(worker._over, 1)

    assert asyncio.run(end()) == 0
    assert [record.message for record in caplog.records] == ["bug"]
