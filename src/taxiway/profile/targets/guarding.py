"""Becomes `taxiway serve`, and ends when whoever started it does: `python -m taxiway.profile.targets.guarding ...`.

A profile that is killed cannot stop the server that it started; so the kernel does (prctl(2), PR_SET_PDEATHSIG), which
lasts through exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Ask for the signal, then become the server."""
    parent = int(sys.argv[1])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:  # it ended before we could ask
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", "taxiway", "serve", *sys.argv[2:]])  # noqa: S606 - our own words


if __name__ == "__main__":
    main()
