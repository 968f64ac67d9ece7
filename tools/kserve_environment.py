"""KServe's Python SDK in an environment of its own: its pins are not ours, and its messages have tritonclient's names.

    python -m tools.kserve_environment     # make it, then print its Python

Made under `.cache` from requirements/kserve.txt, which pins every package with hashes; made again when that changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements" / "kserve.txt"
DEFAULT_CACHE = ROOT / ".cache"
STAMP = "requirements.sha256"
INSTALL_TIMEOUT_S = 900.0


class KServeUnavailable(Exception):
    """It cannot be had here; the message says why."""


def ensure_kserve(cache: Path = DEFAULT_CACHE) -> Path:
    """The Python that has KServe's SDK, provisioned under `cache` if it is not there yet.

    Raises:
        KServeUnavailable: pip could not install it.
    """
    recipe = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    home = cache / "kserve"
    python = home / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kserve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / STAMP
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == recipe:
            return python
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        _install(python)
        stamp.write_text(recipe, encoding="utf-8")  # last: what was interrupted is made again
    return python


def _install(python: Path) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--require-hashes"]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", "-r", str(REQUIREMENTS)],
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise KServeUnavailable(f"pip did not end in {INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode != 0:
        raise KServeUnavailable(done.stderr.strip()[-500:])


def main() -> None:
    """Provision and tell where."""
    print(ensure_kserve())


if __name__ == "__main__":
    main()
