"""A TorchServe archive as it lies ready to be served: unpacked, its manifest and configuration read."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.core.errors import InvalidModel, UnsafePath
from taxiway.runtimes.hosted.unpacking import Folder, unpack

_MANIFEST = "MAR-INF/MANIFEST.json"
_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_HINT = "pack it again: torch-model-archiver --model-name NAME --version 1.0 --handler HANDLER ..."


@dataclass(frozen=True, slots=True)
class Archive:
    """What was packed.

    Attributes:
        directory: where it lies now.
        manifest: MAR-INF/MANIFEST.json.
        config: the configuration file that was packed with it (`--config-file`); empty if there is none.
        missing: packages of its requirements file that are not installed here, by name.
        folder: what was made to unpack it; None if it lay unpacked.
    """

    directory: Path
    manifest: Mapping[str, Any]
    config: Mapping[str, Any]
    missing: tuple[str, ...]
    folder: Folder | None

    @property
    def handler(self) -> str:
        """The handler that the manifest names."""
        return str(self.manifest["model"]["handler"])

    def number(self, name: str, default: int) -> int:
        """A whole number that the configuration gives, at least 0."""
        value = self.config.get(name, default)
        if type(value) is not int or value < 0:
            raise InvalidModel(f"{name} is {value!r} in the archive's configuration; it must be a number, 0 or more")
        return value

    def close(self) -> None:
        """Remove what was unpacked."""
        if self.folder is not None:
            self.folder.remove()


def open_archive(path: Path) -> Archive:
    """The archive in a `.mar` file, or unpacked around its directory MAR-INF.

    Raises:
        InvalidModel: it has no manifest that names a handler, or a file that it names is not there.
        UnsafeArtifact: it must not be unpacked.
    """
    folder = None if path.is_dir() else unpack(path)
    directory = path.parent if folder is None else folder.path
    try:
        manifest = _manifest(directory)
        model = manifest["model"]
        missing = _missing(directory, str(model.get("requirementsFile") or "requirements.txt"))
        return Archive(directory, manifest, _config(directory, model.get("configFile")), missing, folder)
    except BaseException:
        if folder is not None:
            folder.remove()
        raise


def _manifest(directory: Path) -> Mapping[str, Any]:
    path = directory / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InvalidModel(f"{path} cannot be read: {problem}", hint=_HINT) from problem
    model = manifest.get("model") if isinstance(manifest, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("handler"), str) or not model["handler"]:
        raise InvalidModel(f"{path} names no handler", hint=_HINT)
    for member in ("serializedFile", "modelFile", "configFile"):
        if model.get(member):
            _inside(directory, str(model[member]))
    return dict(manifest)


def _inside(directory: Path, name: str) -> Path:
    """A file that the manifest names, which may name nothing outside."""
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise UnsafePath(f"{_MANIFEST} names {name!r}, which is outside of the archive", file=name, rule="mar-path")
    return path


def _config(directory: Path, name: str | None) -> Mapping[str, Any]:
    if not name:
        return {}
    try:
        import yaml  # noqa: PLC0415 - only archives with such a file need it, in whatever environment they run
    except ImportError as problem:
        raise InvalidModel(
            f"the archive has the configuration file {name!r}, and PyYAML to read it is not installed where it runs",
            hint="pip install pyyaml, in the environment of execution.python",
        ) from problem
    try:
        config = yaml.safe_load(_inside(directory, name).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise InvalidModel(f"the archive's {name!r} cannot be read: {problem}") from problem
    if config is not None and not isinstance(config, dict):
        raise InvalidModel(f"the archive's {name!r} must be a mapping of settings")
    return config or {}


def _missing(directory: Path, name: str) -> tuple[str, ...]:
    """Requirements that nothing here meets, by name; their versions are the environment's business."""
    path = _inside(directory, name)
    if not path.is_file():
        return ()
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [found.group(1) for line in lines if (found := _NAME.match(line))]
    return tuple(one for one in named if not _is_installed(one))


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
