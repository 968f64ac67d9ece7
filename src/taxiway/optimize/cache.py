"""What was found out before: each order's answer, named by the order, in a folder named by the model, data and tools.

A run that was killed goes on where it was; a run that is repeated does nothing. An answer is written beside its name
and moved there, so half an answer is none.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from taxiway.core.errors import FailedPrecondition, NoRoom
from taxiway.optimize.workshop.client import OrderFailed, Workshop
from taxiway.optimize.workshop.orders import Failed, Make, Order, Race, Reply, Score, Weigh

Wanted = TypeVar("Wanted", bound=msgspec.Struct)

_FULL: Final = "No space left on device"
_LEAST_FREE_BYTES: Final = 1 << 20
_CHUNK: Final = 1 << 20

ROOM_FOR: Final = 8
"""Times the model's size that have to be free before anything is begun."""


def digest_of_file(path: Path) -> str:
    """SHA-256 in hex."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            made.update(piece)
    return made.hexdigest()


def digest_of(parts: Sequence[str]) -> str:
    """SHA-256 in hex over texts, none of which can run into the next."""
    made = hashlib.sha256()
    for part in parts:
        made.update(f"{len(part)}:{part}".encode())
    return made.hexdigest()


@contextmanager
def workplace(cache: Path, key: str, model_bytes: int) -> Iterator[Path]:
    """The folder of a run, which nobody else works in meanwhile.

    Raises:
        NoRoom: the disk has less left than a run may need.
        FailedPrecondition: another run is in it.
    """
    folder = cache / key[:32]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    free, needed = shutil.disk_usage(folder).free, ROOM_FOR * model_bytes + (64 << 20)
    if free < needed:
        raise NoRoom(
            f"{folder} has {free >> 20} MiB left, and optimizing this model may need {needed >> 20} MiB",
            hint="free some, or name another place with --cache",
            free_bytes=free,
        )
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPrecondition(
                "another run optimizes this model on these data", hint="wait for it: its results will be used"
            ) from None
        yield folder


class Memory:
    """Asks the workshop what it was not asked before."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self._workshop = workshop
        self._folder = folder / "answers"
        self._folder.mkdir(exist_ok=True)
        self.asked = 0
        """Orders that were not answered from memory."""

    def ask(self, order: Order, wanted: type[Wanted], *, apart: bool = False) -> Wanted:
        """As `Workshop.ask`; a file that the order was to write may be gone, as `ensure` knows.

        Raises:
            OrderFailed: it cannot be done.
            NoRoom: the disk is full.
        """
        path = self._path(order)
        if path.is_file():
            reply: Reply = msgspec.json.decode(path.read_bytes(), type=Reply)
            if isinstance(reply, Failed):
                raise OrderFailed(reply)
            assert isinstance(reply, wanted)  # noqa: S101 - each order has one kind of answer
            return reply
        self.asked += 1
        try:
            found = self._obeyed(order, wanted, apart=apart)
        except OrderFailed as problem:
            if _is_fact(order, problem.failed):
                self._keep(path, problem.failed)
            raise
        self._keep(path, found)
        return found

    def knows(self, order: Order) -> bool:
        """Whether it was answered before."""
        return self._path(order).is_file()

    def ensure(self, order: Order, wanted: type[Wanted], made: Path) -> Wanted:
        """As `ask`, with the file that the order makes in its place."""
        reply = self.ask(order, wanted)
        return reply if made.exists() else self._obeyed(order, wanted)

    def _path(self, order: Order) -> Path:
        return self._folder / f"{hashlib.sha256(msgspec.json.encode(order)).hexdigest()}.json"

    def _obeyed(self, order: Order, wanted: type[Wanted], *, apart: bool = False) -> Wanted:
        try:
            return self._workshop.ask_apart(order, wanted) if apart else self._workshop.ask(order, wanted)
        except OrderFailed as problem:
            if self._is_full(problem.failed):
                raise no_room(self._folder.parent) from problem
            raise

    def _is_full(self, failed: Failed) -> bool:
        """Whether the disk may be what failed: not every library says so."""
        return shutil.disk_usage(self._folder).free < _LEAST_FREE_BYTES or _FULL in failed.message

    def _keep(self, path: Path, reply: msgspec.Struct) -> None:
        beside = path.with_suffix(".part")
        try:
            with beside.open("wb") as file:
                file.write(msgspec.json.encode(reply))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as problem:
            beside.unlink(missing_ok=True)
            raise NoRoom(
                f"cannot write to {self._folder}: {problem}",
                hint="free some space and say the same again: it goes on from here",
            ) from problem


def _is_fact(order: Order, failed: Failed) -> bool:
    """Whether a failure is remembered: a candidate's, and not for want of memory, which may be there next time."""
    return isinstance(order, (Make, Score, Race, Weigh)) and not failed.passing


def no_room(folder: Path) -> NoRoom:
    """The error for a disk that is full."""
    return NoRoom(f"the disk of {folder} is full", hint="free some and say the same again: it goes on from here")
