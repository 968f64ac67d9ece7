"""Second opinions on pickles: picklescan's and fickling's, in a process of their own with little time and memory.

They are advice that a refusal quotes. A pickle that both call harmless is refused like any other: both have been got
around before, and will be again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taxiway.intake.limits import Limits
    from taxiway.intake.scan.look import FoundPickle


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one scanner says of one pickle.

    Attributes:
        verdict: `harmless`, `suspicious`, `dangerous`, or `failed` if it could not look to the end.
        said: what it saw.
    """

    scanner: str
    verdict: str
    said: str = ""

    def told(self) -> str:
        """As a sentence has it."""
        return f"{self.scanner} says {self.verdict}{f' ({self.said})' if self.said else ''}"


def ask_opinions(pickles: Sequence[FoundPickle], limits: Limits) -> list[tuple[Opinion, ...]]:
    """What the scanners say of each pickle. A scanner that crashes or hangs has failed, which is an answer."""
    if not pickles:
        return []
    asked = {
        "memory_bytes": limits.opinion_memory_bytes,
        "cpu_s": int(limits.opinion_timeout_s) + 1,
        "pickles": [
            {"path": str(found.at), "offset": found.offset, "max_bytes": limits.max_pickle_bytes} for found in pickles
        ],
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-I", "-c", _PROGRAM, json.dumps(sys.path)],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=limits.opinion_timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _failed(pickles, f"no answer within {limits.opinion_timeout_s:g} s")
    # One line of JSON for each pickle, flushed at once: a crash keeps what came before it.
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"[")]
    told = [tuple(Opinion(*one) for one in answer) for answer in answers[: len(pickles)]]
    return told + _failed(pickles[len(told) :], f"the scanners' process ended with {done.returncode}")


def _failed(pickles: Sequence[FoundPickle], said: str) -> list[tuple[Opinion, ...]]:
    return [(Opinion("picklescan", "failed", said), Opinion("fickling", "failed", said)) for _ in pickles]


_PROGRAM = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import taxiway.intake.scan.judge as j; j.main()"
"""Isolated mode ignores PYTHON* variables and the working directory, where a model could have left a module."""
