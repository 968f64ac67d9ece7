"""The main loop of a model process: opens one model, then answers runs until the data plane closes it, or is gone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import traceback
from dataclasses import dataclass

from taxiway.core.errors import InvalidModel, TaxiwayError
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter
from taxiway.runtimes.hosted.batch import Batch, Outbox
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
    handed = Handed.read(words)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's Ctrl-C reaches every process: the data plane says when
    if handed.cpus:
        os.sched_setaffinity(0, handed.cpus)
    if handed.memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (handed.memory_bytes, handed.memory_bytes))
    control = socket.socket(fileno=handed.control)
    end_with(control)
    mailbox = Mailbox(control)
    lines = Lines(mailbox, ArenaReader(handed.inbox), Outbox(ArenaWriter(handed.outbox)))
    guest = _open(mailbox, lines)
    if guest is not None:
        _serve(guest, lines)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads of the model must not keep a process that is closed


def _open(mailbox: Mailbox, lines: Lines) -> Guest | None:
    first = mailbox.next_work()
    if not isinstance(first, Open):
        return None
    try:
        guest = open_guest(first.backend, Source.of(first), lines)
    except TaxiwayError as problem:
        mailbox.send(Failed(problem.to_data()))
        return None
    except BaseException as problem:  # noqa: BLE001 - the boundary: whatever the model's code raises is told
        traceback.print_exc()
        told = InvalidModel(f"the model's own code raised {type(problem).__name__} while it was loaded: {problem}")
        mailbox.send(Failed(told.to_data()))
        return None
    mailbox.send(guest.opened)
    return guest


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
    with contextlib.suppress(Exception):
        guest.close()
