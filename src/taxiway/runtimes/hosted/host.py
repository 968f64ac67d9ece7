"""The main loop of a model process: opens one model, then answers runs until the data plane closes it, or is gone."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import traceback
from dataclasses import dataclass

from taxiway.core.errors import InvalidModel, TaxiwayError
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter
from taxiway.runtimes.hosted.batch import Batch, Outbox, error_data
from taxiway.runtimes.hosted.frames import Close, Failed, Learn, Open, Run
from taxiway.runtimes.hosted.guest import Guest, Source
from taxiway.runtimes.hosted.guests import open_guest
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.mailbox import Mailbox, end_with

BEGUN = 2
"""What a run's mark is once its requests are the model's: until then another process may have them instead."""


@dataclass(frozen=True, slots=True)
class Handed:
    """What the data plane hands to a process on its command line: descriptors and limits.

    Attributes:
        control: the socket; inbox, outbox: the arenas.
        memory_bytes: private memory it may have; 0 for no limit.
        cpus: processors it may use; empty for all.
    """

    control: int
    inbox: int
    outbox: int
    memory_bytes: int
    cpus: tuple[int, ...]

    @classmethod
    def read(cls, words: list[str]) -> Handed:
        """From the command line, as `words` writes it."""
        control, inbox, outbox, memory = (int(word) for word in words[:4])
        return cls(control, inbox, outbox, memory, tuple(int(cpu) for cpu in words[4].split(",") if cpu))

    def words(self) -> list[str]:
        """For the command line."""
        numbers = (self.control, self.inbox, self.outbox, self.memory_bytes)
        return [*map(str, numbers), ",".join(map(str, self.cpus))]


def main(words: list[str]) -> None:
    """Serve one model."""
    status = 1
    try:
        _main(Handed.read(words))
        status = 0
    except BaseException:  # noqa: BLE001 - the boundary: the last line printed is what people are told
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the model may have closed or replaced it
                stream.flush()
        os._exit(status)  # threads of the model must not keep a process that is at its end


def _main(handed: Handed) -> None:
    _ignore_signals()
    if handed.cpus:
        os.sched_setaffinity(0, handed.cpus)
    if handed.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (handed.memory_bytes, handed.memory_bytes))
    control = socket.socket(fileno=handed.control)
    os.set_inheritable(handed.control, False)
    end_with(control)
    mailbox = Mailbox(control)
    lines = Lines(mailbox, ArenaReader(handed.inbox), Outbox(ArenaWriter(handed.outbox)))
    for number in (handed.inbox, handed.outbox):
        os.close(number)  # it is mapped
    gc.freeze()  # what was imported stays, and need not be looked through for garbage; what the model brings is its own
    guest = _open(mailbox, lines)
    if guest is not None:
        _serve(guest, lines)


def _ignore_signals() -> None:
    """Whoever stops the server may signal all of its processes: the data plane says when this one is to end.

    By a handler, which what the model starts does not inherit: that is to end when the model terminates it.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, _ignore)

    def default() -> None:
        for number in numbers:
            if signal.getsignal(number) is _ignore:
                signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=default)


def _ignore(*_: object) -> None:
    """A signal that is not for this process."""


def _open(mailbox: Mailbox, lines: Lines) -> Guest | None:
    first = mailbox.next_work()
    if not isinstance(first, Open):
        return None
    try:
        guest = open_guest(first.backend, Source.of(first), lines)
    except TaxiwayError as problem:
        mailbox.send(Failed(error_data(problem)))
        return None
    except BaseException as problem:  # noqa: BLE001 - the boundary: whatever the model's code raises is told
        traceback.print_exc()
        mailbox.send(Failed(error_data(_told(problem))))
        return None
    mailbox.send(guest.opened)
    return guest


def _told(problem: BaseException) -> InvalidModel:
    hint = ""
    if isinstance(problem, ModuleNotFoundError):
        hint = f"install what it imports for {sys.executable}, or name a Python that has it: --execution.python PATH"
    said = f"the model's own code raised {type(problem).__name__} while it was loaded: {problem}"
    return InvalidModel(said, hint=hint)


def _serve(guest: Guest, lines: Lines) -> None:
    names: Learn | None = None
    while not isinstance(work := lines.mailbox.next_work(), Close):
        if isinstance(work, Learn):
            names = work
            guest.learn(names)
        elif isinstance(work, Run) and names is not None:
            runs = [work]
            if names.decoupled and names.max_merged > 1:
                runs += lines.mailbox.more_runs(names.max_merged - 1, names.max_merged - work.rows)
            for run in runs:
                lines.inbox.memory[run.mark] = BEGUN
            guest.run([Batch(run, names, lines.inbox) for run in runs])
            del runs, run
        del work
    guest.close()
