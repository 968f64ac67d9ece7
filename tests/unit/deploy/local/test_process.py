"""Starting a worker where the system has no room for one: an error of ours, and nothing left open."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from taxiway.config.settings import Settings
from taxiway.core.errors import InternalError
from taxiway.deploy.local import process, supervisor
from taxiway.deploy.local.supervisor import Supervisor

PATIENCE_S = 20.0


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_room_for_a_slot_is_an_error_of_ours_and_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def start() -> None:
        before = _open_files()
        with pytest.raises(InternalError, match="Too many open files"):
            await process.start_process(process.WORKER, {}, 1000, [])
        await asyncio.sleep(0)  # in which transports close
        assert _open_files() == before

    monkeypatch.setattr(process, "make_slot", full)
    asyncio.run(start())


def test_a_defect_before_the_first_worker_ends_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a defect")

    async def serve() -> None:
        settings = Settings.model_validate(
            {"http": {"port": 0}, "grpc": {"port": 0}, "metrics": {"port": 0}, "control": {"enabled": False}}
        )
        await asyncio.wait_for(Supervisor(settings, lambda _: None).run(), PATIENCE_S)

    monkeypatch.setattr(supervisor, "start_process", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        asyncio.run(serve())
