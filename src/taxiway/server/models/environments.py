"""The Python environment of a model that brings its own: Triton's parameter EXECUTION_ENV_PATH.

It names the directory of an environment, or an archive of one (conda-pack writes such), which is unpacked once: into
a directory that is named by the archive's digest, and that comes into being whole or not at all.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from taxiway.core.errors import InvalidModel
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")
PARAMETER = "EXECUTION_ENV_PATH"
_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
_MAX_BYTES = 64 << 30
_MAX_MEMBERS = 1_000_000


def interpreter_of(parameters: Mapping[str, str], directory: Path, kept: Path) -> str | None:
    """The interpreter that the parameters of a model ask for; None if they do not. May take long.

    Args:
        parameters: the model's.
        directory: the model's.
        kept: where unpacked archives are kept.

    Raises:
        InvalidModel: what they name is not an environment.
    """
    named = parameters.get(PARAMETER)
    if not named:
        return None
    path = Path(named.replace(_MODEL_DIRECTORY, str(directory)))
    if not path.is_absolute():
        raise _refusal(named, "it must be an absolute path, or begin with $$TRITON_MODEL_DIRECTORY")
    if not path.exists():
        raise _refusal(named, f"{path} does not exist")
    environment = path if path.is_dir() else _unpacked(path, kept, named)
    python = environment / "bin" / "python"
    if not python.exists():
        raise _refusal(named, f"there is no {python}")
    return str(python)


def _unpacked(archive: Path, kept: Path, named: str) -> Path:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    place = kept / digest
    if place.is_dir():
        return place
    _log.info("environment_unpacked", path=str(archive), nbytes=archive.stat().st_size)
    kept.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=kept))
    try:
        _unpack(archive, fresh, named)
        try:
            fresh.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise
    except OSError as problem:
        raise _refusal(named, f"it cannot be unpacked into {kept}: {problem}") from problem
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place


def _unpack(archive: Path, into: Path, named: str) -> None:
    """Nothing of it may lie, or lead, outside of the environment; tarfile's own filter sees to that."""
    try:
        with tarfile.open(archive) as tar:
            nbytes = 0
            for number, member in enumerate(tar):
                nbytes += member.size
                if nbytes > _MAX_BYTES or number > _MAX_MEMBERS:
                    raise _refusal(named, f"it unpacks to more than {_MAX_BYTES} bytes or {_MAX_MEMBERS} files")
                tar.extract(member, into, filter="data")
    except (tarfile.TarError, EOFError) as problem:
        raise _refusal(named, f"it is not an archive that can be unpacked: {problem}") from problem
    into.chmod(0o700)


def _refusal(named: str, reason: str) -> InvalidModel:
    return InvalidModel(
        f"parameter {PARAMETER} is {named!r}: {reason}",
        hint="name the directory of a Python environment with numpy and msgspec in it, or a tar archive of one",
    )
