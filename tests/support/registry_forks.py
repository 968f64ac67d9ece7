"""A process that forks writers to a registry: ten at once, or one that is killed at a point of its work.

`python -m tests.support.registry_forks` reads one JSON array per line and answers with one JSON value:
`["points", url, blobs]`, `["die", url, blobs, point]`, `["write", url, blobs, writers, each]`. Forking from here, where
everything is imported and nothing is open, costs milliseconds where a new process costs a second.

The points are found without any help from the code under test: each SQL statement and commit, before and after, and
each file that is opened for writing, renamed or removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event

from taxiway.core.errors import AliasMoved, AlreadyExists, AlreadyRegistered, BlobMissing
from taxiway.registry import ANY, Manifest, NewVersion, Registry

FILE_EVENTS = ("os.rename", "os.remove", "os.mkdir")


# --- what writers do -----------------------------------------------------------------------------------


def version_of(registry: Registry, content: bytes) -> NewVersion:
    return NewVersion("fraud", Manifest.of([registry.put_bytes(content).at("@/model.onnx")]), "onnx")


def work(registry: Registry) -> None:
    """Some of everything; done again after a kill it completes what is missing."""
    for number, content in ((1, b"one"), (2, b"two")):
        version = version_of(registry, content)
        registry.register(version, actor="ada", why="go", idempotency_key=f"job-{number}")
        registry.set_alias("fraud", "stable", number, expect=ANY, actor="ada", why="go")
    registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    with contextlib.suppress(AlreadyExists):
        small = Manifest.of([registry.put_bytes(b"small").at("@/model.onnx")])
        registry.add_variant("fraud:2-int8", small, recipe={"q": 8}, actor="ada")
    registry.put_bytes(b"nobody uses this")
    registry.collect_garbage(actor="ada", grace_s=0)


def write_beside_others(registry: Registry, writer: int, each: int) -> None:
    """`each` versions of its own, one that all of them have, and a turn of the alias for each."""
    for number in range(each):
        register_once(registry, b"%d of %d" % (number, writer))
        register_once(registry, b"everybody's %d" % number)
        turn_alias(registry, writer)
        registry.collect_garbage(actor=f"writer {writer}", grace_s=0)


def register_once(registry: Registry, content: bytes) -> None:
    """Somebody collects garbage without grace all the time: then the bytes are put again."""
    while True:
        with contextlib.suppress(BlobMissing):
            new = version_of(registry, content)
            with contextlib.suppress(AlreadyRegistered):
                registry.register(new, actor="ada", why="go")
            return


def turn_alias(registry: Registry, writer: int) -> None:
    """Compare and swap: each writer's turn counts, none is lost."""
    while True:
        found = registry.aliases("fraud").get("turn")
        to = registry.resolve("fraud").number if found is None else found % registry.resolve("fraud").number + 1
        with contextlib.suppress(AliasMoved):
            registry.set_alias("fraud", "turn", to, expect=found, actor=f"writer {writer}", why="my turn")
            return


# --- dying at a point ----------------------------------------------------------------------------------


class Points:
    """Counts the points that are passed, and dies at one of them."""

    def __init__(self, fatal: int) -> None:
        self.passed = 0
        self._fatal = fatal

    def watch(self) -> None:
        for name in ("before_cursor_execute", "after_cursor_execute", "commit", "rollback"):
            event.listen(Engine, name, self.here)
        sys.addaudithook(self._heard)

    def here(self, *_details: object, **_more: object) -> None:
        self.passed += 1
        if self.passed == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def _heard(self, name: str, details: tuple[Any, ...]) -> None:
        writes = name == "open" and isinstance(details[2], int) and details[2] & (os.O_WRONLY | os.O_RDWR)
        if name in FILE_EVENTS or writes:
            self.here()


def work_until(url: str, blobs: str, fatal: int) -> int:
    points = Points(fatal)
    points.watch()
    with Registry.open(url, blobs) as registry:
        work(registry)
    return points.passed


# --- the process ---------------------------------------------------------------------------------------


def forked(job: Callable[[], object]) -> tuple[int, int]:
    """Start a child; its process id, and where its answer can be read."""
    answers, answer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(answer)
        return pid, answers
    code = 1
    try:
        os.write(answer, json.dumps(job()).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - the child's last word
        traceback.print_exc()
    os._exit(code)


def ended(pid: int, answers: int) -> tuple[int, Any]:
    """Its exit code, negative for a signal, and its answer."""
    with os.fdopen(answers, "rb") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), json.loads(text or b"null")


def obey(order: str, url: str, blobs: str, *numbers: int) -> object:
    if order == "points":
        return ended(*forked(lambda: work_until(url, blobs, 0)))
    if order == "die":
        return ended(*forked(lambda: work_until(url, blobs, numbers[0])))
    writers, each = numbers

    def write(writer: int) -> None:
        with Registry.open(url, blobs) as registry:
            write_beside_others(registry, writer, each)

    children = [forked(lambda writer=writer: write(writer)) for writer in range(writers)]  # type: ignore[misc]
    return [ended(*child) for child in children]


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(obey(*json.loads(line))), flush=True)


# --- its user ------------------------------------------------------------------------------------------


@contextmanager
def forker(module: str = "tests.support.registry_forks") -> Iterator[Callable[..., Any]]:
    """Call it with an order; it returns the answer."""
    command = [sys.executable, "-W", "error", "-m", module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(*order: object) -> Any:
            stdin.write(f"{json.dumps(order)}\n")
            stdin.flush()
            return json.loads(stdout.readline())

        yield ask
        stdin.close()


if __name__ == "__main__":
    main()
