"""A conversion in a process of its own: exporters hang, crash and eat memory, and none of that may reach the caller.

Nor does the child outlive whoever wants its answer: the kernel ends it with its parent, and its own alarm at the limit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from taxiway.convert.abroad import LACKS
from taxiway.convert.outcome import STORY, VERDICT, Converted, NotConverted, Outcome, Reason, Request
from taxiway.convert.sources import Kind, function_of, kind_of
from taxiway.core.errors import NotFound

_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_LAST_WORDS = 400


def to_onnx(request: Request) -> Outcome:
    """Convert `request.source` to ONNX at `request.target`, which is there only if the verdict is Converted.

    Raises:
        NotFound: there is no such source, no such samples, or no directory for the target.
    """
    check_places(request)
    target = Path(request.target).resolve()
    with unwinding(), tempfile.TemporaryDirectory(prefix=".converting-", dir=target.parent) as folder:
        made = Path(folder, "model.onnx")
        verdict = _run(_within(request, made), Path(folder))
        if not isinstance(verdict, Converted):
            return verdict
        made.replace(target)
    return msgspec.structs.replace(verdict, target=request.target)


@contextlib.contextmanager
def unwinding() -> Iterator[None]:
    """Have SIGTERM end this process as an exception does, so that the folder goes; unless somebody else handles it."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def check_places(request: Request) -> None:
    """See that whatever the request names is there.

    Raises:
        NotFound: something is not.
    """
    kind = kind_of(request.source)
    if kind not in (Kind.FUNCTION, Kind.HUGGING_FACE) and not Path(request.source).is_file():
        raise NotFound(f"source: there is no file {request.source}", value=request.source)
    for field, path in (("samples", request.samples), ("python", request.python)):
        if path is not None and not Path(path).is_file():
            raise NotFound(f"{field}: there is no file {path}", value=path)
    directory = Path(request.target).resolve().parent
    if not directory.is_dir():
        raise NotFound(
            f"target: there is no directory {directory} for {request.target}",
            hint=f"mkdir -p {directory}",
            value=request.target,
        )


def _within(request: Request, target: Path) -> Request:
    """The request as the child gets it: from another directory, to a target that nobody sees yet."""
    return msgspec.structs.replace(
        request,
        source=_from_anywhere(request.source),
        samples=None if request.samples is None else str(Path(request.samples).resolve()),
        target=str(target),
        python=None if request.python is None else str(Path(request.python).absolute()),  # a link says whose it is
    )


def _from_anywhere(source: str) -> str:
    if kind_of(source) is not Kind.FUNCTION:
        return str(Path(source).absolute())  # under the name it has here, whatever a link leads to
    place, name = function_of(source)
    return f"{Path(place).resolve()}:{name}" if place.endswith(".py") else source


def _command(request: Request, folder: Path) -> list[str]:
    """This interpreter with our own module, or the user's, which need not have taxiway."""
    if request.python is None:
        return [sys.executable, "-m", "taxiway.convert", str(folder)]
    return [request.python, str(Path(__file__).with_name("abroad.py")), str(folder)]


def _run(request: Request, folder: Path) -> Outcome:
    with (folder / "output.log").open("w+b") as log:
        child = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            _command(request, folder),
            cwd=Path.cwd() if kind_of(request.source) is Kind.FUNCTION else folder,  # a function may open its files
            env=os.environ | _ONE_THREAD | _OFFLINE | {"TMPDIR": str(folder)} | _path_for(request),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            child.communicate(msgspec.json.encode(request), timeout=request.time_limit_s)
        except subprocess.TimeoutExpired:
            return _cut_short(folder, Reason.TIMED_OUT, f"was not done after {request.time_limit_s:g} s")
        finally:
            _end(child)
        if child.returncode != 0 or not (folder / VERDICT).is_file():
            ended = _how_it_ended(child.returncode, folder / "output.log")
            return _cut_short(folder, Reason.LIBRARY_MISSING if LACKS in ended else Reason.CRASHED, ended)
    return _read(folder / VERDICT)


def _path_for(request: Request) -> dict[str, str]:
    """A function's module is looked for where the caller stands, too."""
    if kind_of(request.source) is not Kind.FUNCTION:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _cut_short(folder: Path, reason: Reason, what: str) -> NotConverted:
    """The verdict on a conversion that did not come to one, with what it had found out."""
    story = _read(folder / STORY) if (folder / STORY).is_file() else None
    told = story if isinstance(story, NotConverted) else NotConverted(reason=reason, message="", attempts=())
    message = f"the conversion {what}; {told.message}" if told.message else f"the conversion {what}"
    return msgspec.structs.replace(told, reason=reason, message=message, hint="the native library serves this model")


def _read(path: Path) -> Outcome:
    outcome: Outcome = msgspec.json.decode(path.read_bytes(), type=Outcome)
    return outcome


def _how_it_ended(code: int, log: Path) -> str:
    ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    said = " ".join(log.read_text("utf-8", errors="replace").split())
    return f"{ended}: {said[-_LAST_WORDS:]}" if said else ended
