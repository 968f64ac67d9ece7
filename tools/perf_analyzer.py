"""Has Triton's perf_analyzer ready to run, on machines whose own C library is too old for it.

The binary comes from the package index; the libraries it needs (glibc 2.38) come from a minimal Debian trixie unpacked
into a folder, whose loader then starts it. `python -m tools.perf_analyzer` provisions it and prints the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.60.0"
_PACKAGES = "libstdc++6,libssl3t64,zlib1g"


class PerfAnalyzerUnavailable(Exception):
    """It cannot be had here; the message says why."""


def ensure_perf_analyzer(cache: Path) -> list[str]:
    """The command that runs perf_analyzer, provisioned under `cache` if it is not there yet.

    Raises:
        PerfAnalyzerUnavailable: no debootstrap, no root, or a download that failed.
    """
    home = cache / f"perf-analyzer-{VERSION}"
    if not home.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _build(Path(scratch) / "made")
            (Path(scratch) / "made").rename(home)
    root = home / "root"
    binary = next(home.glob("wheel/**/bin/perf_analyzer"))
    library = root / "usr/lib/x86_64-linux-gnu"
    return [str(root / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(library), str(binary)]


def _build(home: Path) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise PerfAnalyzerUnavailable("needs root and debootstrap (apt-get install debootstrap)")
    home.mkdir()
    wheels = home / "download"
    platform = ["--platform", "manylinux_2_38_x86_64", "--python-version", "3.12"]
    only = ["--no-deps", "--only-binary=:all:", "-q", "-d", str(wheels)]
    _run([sys.executable, "-m", "pip", "download", *only, *platform, f"perf-analyzer=={VERSION}"])
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
        archive.extractall(home / "wheel")
    shutil.rmtree(wheels)
    for binary in home.glob("wheel/**/bin/*"):
        binary.chmod(0o755)
    _run(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "trixie", str(home / "root")])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = (done.stderr or done.stdout).strip()[-400:]
        raise PerfAnalyzerUnavailable(f"{command[0]} failed: {tail}")


if __name__ == "__main__":
    print(" ".join(ensure_perf_analyzer(Path(__file__).resolve().parent.parent / ".cache")))
