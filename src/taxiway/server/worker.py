"""One data-plane process: `python -m taxiway.server.worker FD MAX`, started by the supervisor and by nobody else.

It does what it is asked over the Unix socket FD, in frames of at most MAX bytes: load, do (what changes every
process), admit, publish, stop, give_way. When the supervisor is gone it drains and ends, and if it cannot even do that,
a thread ends it: no orphan is left.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NoReturn

import uvloop

from taxiway.config.settings import Settings
from taxiway.core.errors import EXIT_CODES, ErrorKind
from taxiway.server.app import DataPlane
from taxiway.server.channel import Channel, Verb
from taxiway.server.fleet import Supervised
from taxiway.server.sentinel import Sentinel
from taxiway.telemetry.logs import Log, configure_logs
from taxiway.telemetry.slots import SlotWriter

_log = Log("taxiway.server")
_PUBLISH_S = 1.0
_ENDING_S = 5.0
"""Beyond what draining may take: how long a process without a supervisor gets to end by itself."""


class Worker:
    """The data plane of this process, and what its supervisor may ask of it."""

    def __init__(self, control: socket.socket, sentinel: Sentinel) -> None:
        self._control = control
        self._sentinel = sentinel
        self._over: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._plane: DataPlane | None = None
        self._slot: SlotWriter | None = None
        self._verbs: Mapping[str, Verb] = {}
        self._sockets: list[socket.socket] = []
        self._addresses: dict[str, Any] | None = None
        self._delay_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Serve until the supervisor says that it is over, or is gone; the exit status."""
        verbs: dict[str, Verb] = {
            "load": self._load,
            "do": self._do,
            "admit": self._admit,
            "publish": self._publish_now,
            "stop": self._stop,
            "give_way": self._give_way,
        }
        self._channel = Channel(verbs, int(sys.argv[2]))
        await self._channel.connect(self._control)
        self._channel.closed.add_done_callback(lambda _: self._begin(self._end_alone()))
        return await self._over

    # --- what the supervisor asks ---------------------------------------------------------------------

    async def _load(self, words: Mapping[str, Any]) -> None:
        settings = Settings.model_validate(words["settings"])
        limit = configure_logs(form=settings.log.format, level=settings.log.level, worker=words["worker"])
        self._slot = SlotWriter(words["slot"])
        self._sockets = [socket.socket(fileno=number) for number in words["sockets"]]
        self._delay_s = settings.limits.drain_delay_s
        plane = DataPlane(
            settings,
            self._join_fleet,
            cpus=words["cpus"],
            suppressed_lines=lambda: limit.suppressed,
            worker=words["worker"] or 0,
        )
        self._plane = plane
        if not words["late"]:
            await self._open_ports(plane)  # and say that we are alive; who shares a port would get its share of it
        await plane.load()
        self._sentinel.patience_s = self._delay_s + settings.limits.drain_timeout_s + _ENDING_S

    async def _open_ports(self, plane: DataPlane) -> None:
        self._addresses = asdict(await plane.open(self._sockets, held=True))

    def _join_fleet(self, verbs: Mapping[str, Verb]) -> Supervised:
        self._verbs = verbs
        return Supervised(self._channel)

    async def _do(self, words: Mapping[str, Any]) -> object:
        return await self._verbs[words["verb"]](words["words"])

    async def _admit(self, words: Mapping[str, Any]) -> dict[str, Any]:
        del words
        plane = self._loaded()
        if self._addresses is None:
            await self._open_ports(plane)
        plane.admit()
        self._begin(self._publish_always())
        assert self._addresses is not None  # noqa: S101 - just opened
        return self._addresses

    async def _publish_now(self, words: Mapping[str, Any]) -> None:
        del words
        self._publish()

    async def _stop(self, words: Mapping[str, Any]) -> bool:
        return self._ended(await self._loaded().stop(words["delay_s"]))

    async def _give_way(self, words: Mapping[str, Any]) -> bool:
        return self._ended(await self._loaded().give_way(words["delay_s"]))

    def _ended(self, drained: bool) -> bool:
        self._end(0 if drained else EXIT_CODES[ErrorKind.DEADLINE_EXCEEDED])
        return drained

    # --- what it does by itself -----------------------------------------------------------------------

    def _loaded(self) -> DataPlane:
        assert self._plane is not None  # noqa: S101 - the supervisor loads first
        return self._plane

    def _begin(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish_always(self) -> NoReturn:
        while True:
            self._publish()
            await asyncio.sleep(_PUBLISH_S)

    def _publish(self) -> None:
        if self._slot is None or self._plane is None:
            return
        try:
            self._slot.publish(self._plane.points())
        except Exception as problem:  # noqa: BLE001 - the boundary: what was published before stays, and so do we
            _log.error("bug", error=problem)

    async def _end_alone(self) -> None:
        """The supervisor is gone: nobody will ask for an end, so drain and end."""
        if self._over.done():
            return
        if self._plane is None or self._sentinel.patience_s == 0:
            self._end(EXIT_CODES[ErrorKind.UNAVAILABLE])
            return
        _log.error("supervisor_gone", reason="it ended without a word", hint="requests in flight are finished first")
        await self._plane.stop(self._delay_s)
        self._end(EXIT_CODES[ErrorKind.UNAVAILABLE])

    def _end(self, status: int) -> None:
        self._publish()
        if not self._over.done():
            self._over.set_result(status)


def main() -> NoReturn:
    """Run; then leave at once: the interpreter's own end waits for threads, and a model's run may take minutes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # A terminal's Ctrl-C, and systemd's SIGTERM, reach every process: the supervisor answers for all of them.
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    sentinel = Sentinel(control)
    sentinel.start()
    gc.freeze()  # what was imported stays: to look through it for garbage again and again stops everybody for 35 ms
    status = uvloop.run(_run(control, sentinel))
    logging.shutdown()
    os._exit(status)


async def _run(control: socket.socket, sentinel: Sentinel) -> int:
    return await Worker(control, sentinel).run()


if __name__ == "__main__":
    main()
