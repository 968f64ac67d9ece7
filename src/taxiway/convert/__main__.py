"""The child: one request as JSON on standard input; the story so far and the verdict as JSON in a folder.

python -m taxiway.convert FOLDER

What exporters print goes where this process's output goes; it is never read as an answer. Memory is limited here,
before anything large is imported. This process ends with the one that asks (prctl(2), PR_SET_PDEATHSIG), and at the
limit on time even if that ended before the kernel was told.
"""

from __future__ import annotations

import ctypes
import math
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import Final

import msgspec

from taxiway.convert.outcome import STORY, VERDICT, NotConverted, Outcome, Reason, Request
from taxiway.convert.sources import Kind, kind_of, missing_for_network

_PR_SET_PDEATHSIG: Final = 1
_GRACE_S: Final = 1
"""A parent that is there ends this process at the limit itself, and knows then why it ended."""


def main() -> None:
    """Convert, and leave the verdict; the story is written before each attempt, which may end this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    folder = Path(sys.argv[1])
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=Request)
    signal.alarm(math.ceil(request.time_limit_s) + _GRACE_S)
    resource.setrlimit(resource.RLIMIT_DATA, (request.memory_limit_bytes, request.memory_limit_bytes))
    warnings.simplefilter("ignore")  # exporters and frameworks warn of each other's ages; the comparison judges
    verdict = _convert(request, folder / STORY)
    (folder / VERDICT).write_bytes(msgspec.json.encode(verdict))


def _convert(request: Request, story: Path) -> Outcome:
    try:
        if kind_of(request.source) is Kind.TABLE:
            from taxiway.convert.attempts import convert  # noqa: PLC0415 - after the limit
        else:
            from taxiway.convert.networks.attempts import convert_network as convert  # noqa: PLC0415 - likewise
        return convert(request, lambda outcome: story.write_bytes(msgspec.json.encode(outcome)))
    except ImportError as problem:
        if kind_of(request.source) is not Kind.TABLE:
            return missing_for_network(request.source, str(problem.name), sys.executable)
        return NotConverted(
            reason=Reason.LIBRARY_MISSING,
            message=f"conversion needs {problem.name}, which is not installed",
            hint="pip install 'taxiway[onnx]'",
        )


if __name__ == "__main__":
    main()
