"""A PostgreSQL of our own: a private cluster on a Unix socket, gone when its user is done with it."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

START_TIMEOUT_S: Final = 60.0
MISSING: Final = "no PostgreSQL on this machine (Debian: apt-get install postgresql)"


@dataclass
class Cluster:
    """A running server."""

    folder: Path
    user: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        """Its one database."""
        return f"postgresql://{self.user}@/postgres?host={self.folder}"

    def new_schema(self) -> str:
        """The URL of an empty place in it, that shares no table with any other."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return f"{self.url}&options=-csearch_path%3D{name}"


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`: where Debian puts it, where others do, or on the path."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/local/pgsql/bin")]
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).resolve().parent)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def cluster(*, durable: bool = False) -> Iterator[Cluster]:
    """Make a cluster, run it, stop it and delete it; `durable` keeps its flushes to the disk, which tests do not need.

    Raises:
        FileNotFoundError: there are no binaries.
    """
    folder = binaries()
    if folder is None:
        raise FileNotFoundError(MISSING)
    home = Path(tempfile.mkdtemp(prefix="taxiway-pg-"))  # short: a socket's path has 107 bytes
    try:
        user, prefix = _other_user(home)
        init = [
            *prefix,
            str(folder / "initdb"),
            "-D",
            str(home / "data"),
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        subprocess.run(init, check=True, capture_output=True, cwd=home)
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(_command(prefix, folder, home, durable=durable), stdout=log, stderr=log, cwd=home)
            try:
                running = Cluster(home, user)
                _wait(running, server)
                yield running
            finally:
                server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients that are still there
                server.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _other_user(home: Path) -> tuple[str, list[str]]:
    """PostgreSQL refuses to run as root: then somebody else runs it. It ends with us, even if we are killed."""
    prefix = ["setpriv", "--pdeathsig", "QUIT"]
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name, prefix
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    os.chown(home, entry.pw_uid, entry.pw_gid)
    home.chmod(0o755)
    ids = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    return entry.pw_name, [*prefix, *ids]


def _command(prefix: list[str], folder: Path, home: Path, *, durable: bool) -> list[str]:
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(home),
        "fsync": "on" if durable else "off",
        "max_connections": "60",
        "shared_buffers": "32MB",
    }
    said = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
    return [*prefix, str(folder / "postgres"), "-D", str(home / "data"), *said]


def _wait(running: Cluster, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(running.url).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError((running.folder / "log").read_text()) from None
            time.sleep(0.05)
        else:
            return
