"""What an exception of a model's code is told as, in the words of Triton's Python backend."""

from __future__ import annotations

import concurrent.futures
import traceback
from pathlib import Path

from taxiway.runtimes import hosted

_OWN = (str(Path(hosted.__file__).parent), str(Path(concurrent.futures.__file__).parent))


def described(problem: BaseException, *, places: bool) -> str:
    """Its type and text; with `places` also where it arose, innermost first, down to the model's own first frame."""
    text = f"{type(problem).__name__}: {problem}"
    if not places:
        return text
    frames = [frame for frame in traceback.extract_tb(problem.__traceback__) if not frame.filename.startswith(_OWN)]
    lines = [f"  {frame.filename}({frame.lineno}): {frame.name}\n" for frame in reversed(frames)]
    return "".join([text, "\n\nAt:\n", *lines])
