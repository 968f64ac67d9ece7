"""What lies at a path: an ONNX file, a directory of them, one model's directory, or a Triton model repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taxiway.config.backends import FILE_SUFFIXES
from taxiway.config.problems import Problem, invalid_config, suggest
from taxiway.config.settings import PipelineSettings
from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")

CONFIG_FILE = "config.pbtxt"
_HINT = "give a model's file, a directory of ONNX files, or a model repository: NAME/config.pbtxt, NAME/1/model.onnx"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on disk.

    Attributes:
        directory: where labels and warm-up files are looked for.
        config: its config.pbtxt; None if it has none.
        versions: version number -> its file, or its directory if the configuration names the file.
        given: its configuration as JSON, if a caller gave one; it stands instead of config.pbtxt.
        upload: where its files were written to, if they came with a call; removed with the model.
        pipeline: what the settings say of it, if it is one of their pipelines: it has no files.
        only: the one version that is wanted, whatever the configuration chooses.
        trusted: digests of files that may run code, beside those of the settings.
    """

    name: str
    directory: Path
    config: Path | None
    versions: dict[int, Path]
    given: str | None = None
    upload: Path | None = None
    pipeline: PipelineSettings | None = None
    only: int | None = None
    trusted: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """Where its configuration stands, for messages."""
        return f"pipelines.{self.name}" if self.pipeline is not None else str(self.config or self.directory)

    def with_config(self, given: str) -> FoundModel:
        """The same files under the configuration `given` as JSON."""
        return replace(self, config=None, given=given, pipeline=None)

    @property
    def is_single_file(self) -> bool:
        """Whether it is one file by itself, without a directory of its own."""
        return any(path.parent == self.directory and path.suffix in FILE_SUFFIXES for path in self.versions.values())


@dataclass(frozen=True, slots=True)
class Look:
    """What lay at the paths when they were looked at.

    Attributes:
        models: by name.
        problems: what is wrong there, and what is missing.
        empty: the directories that hold no model, which is no mistake where models may come later.
        missing: the paths, and the directories at them, that are not there or cannot be read.
        unversioned: directories that hold ONNX files, and no version.
    """

    models: dict[str, FoundModel]
    problems: list[Problem]
    empty: list[Path]
    missing: list[Path]
    unversioned: list[Path]

    def refuse(self, rule: str, at: Path | str) -> None:
        """Note that what is there breaks the rule."""
        self.problems.append(Problem("models.paths", str(at), rule, "command line"))

    def unless_unreadable(self, look: Callable[[Path, Look], Iterable[FoundModel]], at: Path) -> Iterable[FoundModel]:
        """What `look` finds there; what the system does not let us see is a problem, and may be there."""
        try:
            return look(at, self)
        except OSError as problem:
            self.missing.append(at)
            self.refuse(f"cannot be read: {problem}", at)
            return ()


def look_at(paths: Sequence[Path]) -> Look:
    """Every model at `paths`, and every problem."""
    look = Look({}, [], [], [], [])
    for path in paths:
        for model in look.unless_unreadable(_look, path):
            other = look.models.setdefault(model.name, model)
            if other is not model:
                look.refuse(f"names the same model as {other.directory}; names must differ", path)
    if not paths:
        look.refuse("must name at least one model", "(nothing)")
    return look


def add_pipelines(look: Look, pipelines: Mapping[str, PipelineSettings]) -> Look:
    """`look`, and the pipelines of the settings."""
    for name, pipeline in pipelines.items():
        nowhere = Path()
        model = FoundModel(name, nowhere, None, {1: nowhere}, pipeline=pipeline)
        other = look.models.setdefault(name, model)
        if other is not model:
            rule = f"is also the model at {other.directory}; names must differ"
            look.problems.append(Problem(f"pipelines.{name}", name, rule, "settings"))
    return look


def check_look(look: Look, *, may_be_empty: bool) -> None:
    """Refuse to serve what is not as it should be.

    Args:
        look: what was found.
        may_be_empty: models may come while the server runs.

    Raises:
        InvalidConfig: nothing is served by these paths, or something at them cannot be; every problem is told.
    """
    for path in look.unversioned:
        _log.warning(
            "directory_not_served",
            path=str(path),
            reason="it holds ONNX files, but no version: a directory named by a number, such as 1/model.onnx",
            hint="name the version's directory 1, or serve the files by their own paths",
        )
    problems = list(look.problems)
    if not may_be_empty:
        rule = "holds no model: neither ONNX files nor model directories"
        problems += [Problem("models.paths", str(path), rule, "command line") for path in look.empty]
    if problems:
        raise invalid_config("what is to be served", problems, hint=_HINT)


def find_models(paths: Sequence[Path]) -> list[FoundModel]:
    """Every model at `paths`, by name.

    Raises:
        InvalidConfig: as `check_look`.
    """
    look = look_at(paths)
    check_look(look, may_be_empty=False)
    return [look.models[name] for name in sorted(look.models)]


def check_overrides(overrides: Iterable[str], names: Sequence[str]) -> None:
    """Refuse `models.overrides` of models that are not there: a name misspelt would change nothing, silently.

    Raises:
        InvalidConfig: names every such model.
    """
    problems = [
        Problem("models.overrides", name, f"is not a model that is served{suggest(name, names)}", "settings")
        for name in overrides
        if name not in names
    ]
    if problems:
        raise invalid_config("models.overrides", problems, hint=f"the models are {', '.join(names)}")


def _look(path: Path, look: Look) -> Iterable[FoundModel]:
    if path.is_file():
        return _single_file(path, look)
    if not path.is_dir():
        look.missing.append(path)
        look.refuse("no such file or directory", path)
        return ()
    if (path / CONFIG_FILE).is_file() or _versions(path):
        return [one_model(path)]
    models = [model for entry in sorted(path.iterdir()) for model in look.unless_unreadable(_entry, entry)]
    if not models:
        look.empty.append(path)
    return models


def _entry(entry: Path, look: Look) -> Iterable[FoundModel]:
    if entry.name.startswith("."):
        return ()
    if entry.is_file():
        return _single_file(entry, look) if entry.suffix == ".onnx" else ()
    if (entry / CONFIG_FILE).is_file() or _versions(entry):
        model = one_model(entry)
        if not model.versions:
            look.refuse("has no version: a directory named by a number, with the model's file in it", entry)
        return [model]
    if entry.is_dir() and any(any(entry.glob(pattern)) for pattern in ("*.onnx", "*/*.onnx")):
        look.unversioned.append(entry)
    return ()


def _single_file(path: Path, look: Look) -> Iterable[FoundModel]:
    if path.suffix not in FILE_SUFFIXES:
        kinds = ", ".join(FILE_SUFFIXES)
        rule = (
            f"is a {path.suffix or 'file without suffix'}; files of {kinds} are served by themselves, others are for "
        )
        look.refuse(f"{rule}`taxiway import` first", path)
        return ()
    try:
        ModelRef.parse(path.stem)
    except InvalidArgument as error:
        look.refuse(f"its name cannot be a model's: {error.hint}", path)
        return ()
    return [FoundModel(path.stem, path.parent, None, {1: path})]


def one_model(directory: Path) -> FoundModel:
    """The model in a directory of its own, by the name that this has here: a link may lead to a release of any name."""
    config = directory / CONFIG_FILE
    name = os.path.basename(os.path.abspath(directory))  # noqa: PTH100, PTH119 - pathlib makes no name of `..`
    return FoundModel(name, directory, config if config.is_file() else None, _versions(directory))


def _versions(directory: Path) -> dict[int, Path]:
    """Sub-directories named by a positive number; anything else beside them is not a version."""
    return {
        int(entry.name): entry
        for entry in sorted(directory.iterdir())
        if entry.is_dir() and entry.name.isascii() and entry.name.isdigit() and not entry.name.startswith("0")
    }
