"""Environments of their own for what tests need and must not stand beside taxiway, made once under `.cache`."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CACHE = ROOT / ".cache"
STAMP = "requirements.sha256"
INSTALL_TIMEOUT_S = 900.0


class EnvironmentUnavailable(Exception):
    """It cannot be had here; the message says why."""


def ensure_environment(name: str, *options: str, cache: Path = DEFAULT_CACHE) -> Path:
    """The Python that has what requirements/NAME.txt lists; made again when that changes.

    Args:
        name: of the file, and of the folder under `cache`.
        cache: where it is made.
        options: of `pip install`, beside those that are always given.

    Raises:
        EnvironmentUnavailable: pip could not install it.
    """
    requirements = ROOT / "requirements" / f"{name}.txt"
    recipe = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    home = cache / name
    python = home / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / STAMP
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == recipe:
            return python
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        _install(python, requirements, options)
        stamp.write_text(recipe, encoding="utf-8")  # last: what was interrupted is made again
    return python


def _install(python: Path, requirements: Path, options: tuple[str, ...]) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *options]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", "-r", str(requirements)],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentUnavailable(f"pip did not end in {INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        raise EnvironmentUnavailable(done.stderr.strip()[-500:])
