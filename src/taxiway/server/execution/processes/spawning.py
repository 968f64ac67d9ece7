"""How a model process comes to be: its arguments, its ends of everything, its environment."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from taxiway.core.errors import InvalidModel
from taxiway.runtimes import hosted
from taxiway.runtimes.hosted.arena import ArenaReader, ArenaWriter, create_file
from taxiway.runtimes.hosted.host import Handed
from taxiway.server.execution.processes.output import ModelLog, Output
from taxiway.server.execution.processes.plan import LaunchPlan

_MAIN = Path(hosted.__file__).with_name("__main__.py")
_NAME_CHARS = 100
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Spawned(NamedTuple):
    """A child, and our ends of what we share with it.

    Attributes:
        outbox: the arena that we write; inbox: the one it writes.
    """

    socket: socket.socket
    process: subprocess.Popen[bytes]
    outbox: ArenaWriter
    inbox: ArenaReader
    log: ModelLog
    output: Output


def spawn(plan: LaunchPlan, index: int, name: str) -> Spawned:
    """Start a process.

    Raises:
        InvalidModel: that cannot be done; nothing is left of it.
    """
    try:
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            spawned = _spawn(plan, index, name, theirs, ours)
            ours.pop_all()
            return spawned
    except (OSError, RuntimeError) as problem:  # RuntimeError: there can be no more threads
        raise InvalidModel(
            f"the process of model {plan.name!r} cannot be started: {problem}",
            hint=f"see that {plan.python} (execution.python) runs, and the limits of this user (ulimit -a)",
        ) from problem


def _spawn(
    plan: LaunchPlan, index: int, name: str, theirs: contextlib.ExitStack, ours: contextlib.ExitStack
) -> Spawned:
    """`ours` is undone if it fails, `theirs` in any case."""
    end, their_end = socket.socketpair()
    ours.callback(end.close)
    theirs.callback(their_end.close)
    files = []
    for way in ("in", "out"):
        files.append(create_file(f"taxiway-{name[:_NAME_CHARS]}-{way}", plan.arena_bytes))
        theirs.callback(os.close, files[-1])
    outbox, inbox = ArenaWriter(files[0]), ArenaReader(files[1])
    cpus = plan.cpus[index] if index < len(plan.cpus) else ()
    handed = Handed(their_end.fileno(), files[0], files[1], plan.memory_bytes, cpus)
    process = subprocess.Popen(  # noqa: S603 - our own file, under the interpreter that is configured
        [plan.python, str(_MAIN), *handed.words()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(their_end.fileno(), *files),
        env=_environment(plan),
        start_new_session=True,
    )
    ours.callback(process.wait)
    ours.callback(process.kill)
    log = ModelLog(plan.labels, index)
    return Spawned(end, process, outbox, inbox, log, Output(process, f"output-{name}", log.printed))


def _environment(plan: LaunchPlan) -> Mapping[str, str]:
    threads = {name: str(plan.threads) for name in _THREAD_VARIABLES}
    return {**threads, **os.environ, "PYTHONUNBUFFERED": "1"}
