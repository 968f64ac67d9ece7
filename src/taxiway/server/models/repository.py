"""What lies at a path: an ONNX file, a directory of them, one model's directory, or a Triton model repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from taxiway.config.problems import Problem, invalid_config, suggest
from taxiway.core.errors import InvalidArgument
from taxiway.core.refs import ModelRef
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")

CONFIG_FILE = "config.pbtxt"
_HINT = "give an ONNX file, a directory of them, or a model repository: NAME/config.pbtxt, NAME/1/model.onnx"


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on disk.

    Attributes:
        directory: where labels and warm-up files are looked for.
        config: its config.pbtxt; None if it has none.
        versions: version number -> its file, or its directory if the configuration names the file.
        given: its configuration as JSON, if a caller gave one; it stands instead of config.pbtxt.
        upload: where its files were written to, if they came with a call; removed with the model.
    """

    name: str
    directory: Path
    config: Path | None
    versions: dict[int, Path]
    given: str | None = None
    upload: Path | None = None

    def with_config(self, given: str) -> FoundModel:
        """The same files under the configuration `given` as JSON."""
        return replace(self, config=None, given=given)

    @property
    def is_single_file(self) -> bool:
        """Whether it is one file by itself, without a directory of its own."""
        return any(path.parent == self.directory and path.suffix == ".onnx" for path in self.versions.values())


@dataclass(frozen=True, slots=True)
class Look:
    """What lay at the paths when they were looked at.

    Attributes:
        models: by name.
        problems: what is wrong there, and what is missing.
        empty: the directories that hold no model, which is no mistake where models may come later.
        missing: the paths that are not there at all.
    """

    models: dict[str, FoundModel]
    problems: list[Problem]
    empty: list[Path]
    missing: list[Path]


def look_at(paths: Sequence[Path]) -> Look:
    """Every model at `paths`, and every problem."""
    look = Look({}, [], [], [])
    for path in paths:
        for model in _look(path, look):
            other = look.models.setdefault(model.name, model)
            if other is not model:
                rule = f"names the same model as {other.directory}; names must differ"
                look.problems.append(Problem("models.paths", str(path), rule, "command line"))
    if not paths:
        look.problems.append(Problem("models.paths", "(nothing)", "must name at least one model", "command line"))
    return look


def check_look(look: Look, *, may_be_empty: bool) -> None:
    """Refuse to serve what is not as it should be.

    Args:
        look: what was found.
        may_be_empty: models may come while the server runs.

    Raises:
        InvalidConfig: nothing is served by these paths, or something at them cannot be; every problem is told.
    """
    problems = list(look.problems)
    if not may_be_empty:
        rule = "holds no model: neither ONNX files nor model directories"
        problems += [Problem("models.paths", str(path), rule, "command line") for path in look.empty]
    if problems:
        raise invalid_config("the models to serve", problems, hint=_HINT)


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


Refuse = Callable[[str, Path], None]
"""Notes that the path breaks the rule."""


def _look(path: Path, look: Look) -> Iterable[FoundModel]:
    def refuse(rule: str, at: Path) -> None:
        look.problems.append(Problem("models.paths", str(at), rule, "command line"))

    if path.is_file():
        return _single_file(path, refuse)
    if not path.is_dir():
        look.missing.append(path)
        refuse("no such file or directory", path)
        return ()
    if (path / CONFIG_FILE).is_file() or _versions(path):
        return [one_model(path)]
    models = [model for entry in sorted(path.iterdir()) for model in _entry(entry, refuse)]
    if not models:
        look.empty.append(path)
    return models


def _entry(entry: Path, refuse: Refuse) -> Iterable[FoundModel]:
    if entry.name.startswith("."):
        return ()
    if entry.is_file():
        return _single_file(entry, refuse) if entry.suffix == ".onnx" else ()
    if (entry / CONFIG_FILE).is_file() or _versions(entry):
        model = one_model(entry)
        if not model.versions:
            refuse("has no version: a directory named by a number, with the model's file in it", entry)
        return [model]
    if entry.is_dir() and any(any(entry.glob(pattern)) for pattern in ("*.onnx", "*/*.onnx")):
        _log.warning(
            "directory_not_served",
            path=str(entry),
            reason="it holds ONNX files, but no version: a directory named by a number, such as 1/model.onnx",
            hint="name the version's directory 1, or serve the files by their own paths",
        )
    return ()


def _single_file(path: Path, refuse: Refuse) -> Iterable[FoundModel]:
    if path.suffix != ".onnx":
        refuse(f"is a {path.suffix or 'file without suffix'}; only .onnx files are served yet", path)
        return ()
    try:
        ModelRef.parse(path.stem)
    except InvalidArgument as error:
        refuse(f"its name cannot be a model's: {error.hint}", path)
        return ()
    return [FoundModel(path.stem, path.parent, None, {1: path})]


def one_model(directory: Path) -> FoundModel:
    """The model in a directory of its own."""
    config = directory / CONFIG_FILE
    return FoundModel(directory.resolve().name, directory, config if config.is_file() else None, _versions(directory))


def _versions(directory: Path) -> dict[int, Path]:
    """Sub-directories named by a positive number; anything else beside them is not a version."""
    return {
        int(entry.name): entry
        for entry in sorted(directory.iterdir())
        if entry.is_dir() and entry.name.isascii() and entry.name.isdigit() and not entry.name.startswith("0")
    }
