"""Models that came with a load call: their files, in a private directory, for as long as the model is known."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from taxiway.core.errors import InvalidArgument, InvalidModel
from taxiway.core.refs import ModelRef
from taxiway.server.models.repository import FoundModel, one_model

_PREFIX = "taxiway-upload-"
_MOST_FILES = 1000
_MOST_PARTS = 8
_MOST_NAME_CHARS = 255


def write_upload(name: str, config: str, files: Mapping[str, bytes]) -> FoundModel:
    """Write `files` into a directory that only this user may read; blocks.

    Args:
        name: of the model.
        config: its configuration as JSON.
        files: by path relative to the model's directory: `1/model.onnx`.

    Raises:
        InvalidArgument: a path leads elsewhere, or there are too many.
        InvalidModel: the disk does not take them.
    """
    if len(files) > _MOST_FILES:
        raise InvalidArgument(f"{len(files)} files are given for model {name!r}; at most {_MOST_FILES} are taken")
    if ModelRef.parse(name) != ModelRef(name):
        raise InvalidArgument(f"{name!r} is a reference to a version; files are given for a model by its name")
    for path in files:
        _check_path(path, name)
    root = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        directory = root / name
        for path, content in files.items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return replace(one_model(directory).with_config(config), upload=root)
    except OSError as problem:
        shutil.rmtree(root, ignore_errors=True)
        raise InvalidModel(
            f"the files given for model {name!r} cannot be kept: {problem}",
            hint="make room in the temporary directory (TMPDIR)",
        ) from problem


def remove_upload(found: FoundModel) -> None:
    """Remove the directory that `write_upload` made for `found`, if one was; blocks."""
    if found.upload is not None:
        shutil.rmtree(found.upload, ignore_errors=True)


def _check_path(path: str, name: str) -> None:
    parts = PurePosixPath(path).parts
    wrong = (
        not parts
        or path.startswith("/")
        or len(parts) > _MOST_PARTS
        or any(part == ".." or len(part) > _MOST_NAME_CHARS for part in parts)
        or not path.isprintable()
        or "\\" in path
        or path != str(PurePosixPath(path))
    )
    if wrong:
        raise InvalidArgument(
            f"'file:{path[:_MOST_NAME_CHARS]}' of model {name!r} is not a path within the model's directory",
            hint="name files as file:VERSION/NAME, such as file:1/model.onnx",
            value=path[:_MOST_NAME_CHARS],
        )
