"""A process that forks restores, one of which is killed at a point of its work.

`python -m tests.support.backup_forks` reads one JSON array per line, as `registry_forks` does:
`["points", file, registry, blobs, journal]`, `["die", file, registry, blobs, journal, point]`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.support.registry_forks import Points, ended, forked

from taxiway.control import backup as everything


def restore_until(file: str, places: everything.Places, fatal: int) -> int:
    points = Points(fatal)
    points.watch()
    tempfile.tempdir = str(Path(file).parent)  # who is killed leaves something there
    everything.restore(Path(file), places, "bob", replace=True)
    return points.passed


def obey(_order: str, file: str, registry: str, blobs: str, journal: str, fatal: int = 0) -> object:
    places = everything.Places(registry, blobs, journal)
    return ended(*forked(lambda: restore_until(file, places, fatal)))


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(obey(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
