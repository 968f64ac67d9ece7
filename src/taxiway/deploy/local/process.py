"""A process of the server as its supervisor holds it: the process, the channel to it, the memory of its metrics."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

from taxiway.core.errors import InternalError
from taxiway.server.channel import Channel, Verb
from taxiway.telemetry.slots import SlotReader, make_slot

WORKER = "taxiway.server.worker"
CONTROL = "taxiway.control.process"
"""What each kind of process runs. Control stands above this room, which knows no more of it than its name."""
_QUIET = {"GRPC_VERBOSITY": "NONE"}
"""grpcio writes a line past our log, its form and its limit, for each handshake that anybody lets fail."""


class ChildProcess:
    """A process that runs. It leads a session of its own: what a terminal sends to its group reaches us only."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, slot: SlotReader, slot_fd: int) -> None:
        self._process = process
        self.channel = channel
        self.slot = slot
        self.slot_fd = slot_fd
        """The slot's number in that process."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it now; it cannot object."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> int:
        """Its exit status, negative if a signal ended it."""
        return await self._process.wait()

    def resident_bytes(self) -> int:
        """Memory that it occupies; 0 if it has just ended."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 - as light as it gets
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0


async def start_process(
    module: str, verbs: Mapping[str, Verb], max_frame_bytes: int, sockets: Sequence[socket.socket]
) -> ChildProcess:
    """Start a process that knows nothing yet, and hand it these sockets.

    Raises:
        InternalError: the system has no room for it.
    """
    with ExitStack() as unless_started, ExitStack() as handed:
        try:
            ours, theirs = socket.socketpair()
            handed.enter_context(theirs)
            channel = Channel(verbs, max_frame_bytes)
            await channel.connect(ours)
            unless_started.callback(channel.close)
            slot = make_slot()
            unless_started.callback(os.close, slot)
            numbers = [theirs.fileno(), slot, *(one.fileno() for one in sockets)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", module, str(theirs.fileno()), str(max_frame_bytes)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sys.stderr.fileno(),  # what a framework prints must not come between our ready lines
                pass_fds=numbers,
                start_new_session=True,
                env={**_QUIET, **os.environ},
            )
        except OSError as problem:
            raise InternalError(
                f"a process of the server cannot be started: {problem}",
                hint="see `ulimit -u`, `ulimit -n` and free memory",
            ) from problem
        unless_started.pop_all()
        return ChildProcess(process, channel, SlotReader(slot), slot)
