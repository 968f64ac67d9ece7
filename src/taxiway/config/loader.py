"""Merging what was given (defaults < file < environment < flags) into Settings, and telling where from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from taxiway.config import sources
from taxiway.config.problems import Problem, invalid_config
from taxiway.config.settings import Settings
from taxiway.config.sources import Given, Leaf, Reading

DEFAULT = "default"

_RULES = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "path_type": "must be a path",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "finite_number": "must be a finite number",
}
"""Our words for pydantic's kinds of error, where its own do not finish the sentence "KEY = VALUE: ..."."""

_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings and where each given leaf came from; a leaf without origin has its default."""

    settings: Settings
    origins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Explained:
    """One setting as `taxiway config explain` prints it."""

    path: str
    value: object
    default: object
    where: str
    help: str


@dataclass(frozen=True, slots=True)
class FlagSpec:
    """One command-line option for one setting.

    Attributes:
        path: the dotted key, to be used in `load_settings(flags=...)`.
        flag: `--batching.max-delay-ms`.
        env: `TAXIWAY_BATCHING__MAX_DELAY_MS`.
        type: int, float, bool, choice, text, list (may be repeated) or mapping (YAML or JSON text).
        default: for the help only; pass None for a flag that was not given.
        help: the setting's docstring.
        choices: the words of a choice.
    """

    path: str
    flag: str
    env: str
    type: str
    default: object
    help: str
    choices: tuple[str, ...] = ()


def load_settings(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Settings:
    """The settings in force. See `load`."""
    return load(file, environ, flags).settings


def load(file: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> Loaded:
    """Merge defaults < file < environment < flags.

    Args:
        file: the YAML file of `--config`; None takes the one that TAXIWAY_CONFIG names, or none.
        environ: the process's environment; nothing else in taxiway reads it.
        flags: dotted path -> string, list or value; None for a flag that was not given.

    Raises:
        InvalidConfig: anything is wrong; `facts['problems']` holds every problem.
    """
    if file is None and environ.get(sources.ENV_CONFIG):
        file = Path(environ[sources.ENV_CONFIG])
    readings = [sources.read_file(file)] if file is not None else []
    readings += [sources.read_environment(environ), sources.read_flags(flags)]
    problems = [problem for reading in readings for problem in reading.problems]
    merged = merge(readings)
    settings = _validate(merged, problems)
    if problems or settings is None:
        raise invalid_config("the configuration", problems, hint=_hint(problems))
    origins = {".".join(path): given.where for path, given in merged.items()}
    return Loaded(settings, origins)


def merge(readings: Sequence[Reading]) -> dict[_Path, Given]:
    """The leaf that wins for each path: the last reading that has it. Lists are replaced, not joined."""
    return {given.path: given for reading in readings for given in reading.given}


def _validate(merged: Mapping[_Path, Given], problems: list[Problem]) -> Settings | None:
    """Settings, or None with every problem added.

    A rule between fields is only checked once the fields are right; so what is wrong is put back to its
    default and checked again, until nothing new is found.
    """
    remaining = dict(merged)
    while True:
        try:
            return Settings.model_validate(_nest(remaining))
        except ValidationError as error:
            at_fault: set[_Path] = set()
            for detail in error.errors():
                path = _path_of(detail, remaining)
                at_fault.add(path)
                problems.append(_problem(detail, path, remaining.get(path)))
        if not at_fault & remaining.keys():
            return None
        remaining = {path: given for path, given in remaining.items() if path not in at_fault}


def _path_of(detail: ErrorDetails, merged: Mapping[_Path, Given]) -> _Path:
    """The leaf an error speaks of: pydantic goes deeper (`models.paths.0`), a rule names its key relative."""
    path = tuple(str(part) for part in detail["loc"])
    key = (detail.get("ctx") or {}).get("key", "")
    whole = path + tuple(str(key).split(".")) if key else path
    for length in range(len(whole), 0, -1):
        if whole[:length] in merged:
            return whole[:length]
    for given in merged:  # a model's name may hold dots, which a rule's key cannot show
        if ".".join(given) == ".".join(whole):
            return given
    return whole


def _problem(detail: ErrorDetails, path: _Path, given: Given | None) -> Problem:
    dotted = ".".join(path)
    rule = _RULES.get(detail["type"], detail["msg"])
    rule = rule.replace("Input should be", "must be").replace("String should", "must")
    deeper = ".".join(str(part) for part in detail["loc"])
    if given is not None and deeper.startswith(dotted + "."):
        rule = f"item {deeper[len(dotted) + 1 :]}: {rule}"
    if given is not None:
        return Problem(dotted, given.value, rule, given.where)
    return Problem(dotted, _default_of(dotted), rule, DEFAULT)


def _default_of(path: str) -> object:
    return next((leaf.default for leaf in sources.leaves() if leaf.path == path), None)


def _nest(merged: Mapping[_Path, Given]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, given in merged.items():
        level = root
        for part in path[:-1]:
            level = level.setdefault(part, {})
        level[path[-1]] = given.value
    return root


def _hint(problems: Sequence[Problem]) -> str:
    known = {leaf.path for leaf in sources.leaves()}
    path = next((problem.path for problem in problems if problem.path in known), "")
    return f"see `taxiway config explain {path}`" if path else "see `taxiway config explain`"


# --- telling -------------------------------------------------------------------------------------------


def explain(loaded: Loaded, prefix: str = "") -> list[Explained]:
    """Each setting with its value, origin and meaning; `prefix` picks one key or one section.

    Overrides of single models follow the schema's own leaves, one line per key that was given.
    """
    table = [_explained(loaded, leaf) for leaf in sources.leaves() if leaf.path != sources.OVERRIDES]
    meaning = {leaf.path: leaf for leaf in sources.leaves()}
    for name, override in loaded.settings.models.overrides.items():
        for section in sorted(override.model_fields_set):
            part = getattr(override, section)
            for key in sorted(part.model_fields_set):
                path = f"{sources.OVERRIDES}.{name}.{section}.{key}"
                general = meaning[f"{section}.{key}"]
                where = loaded.origins.get(path, DEFAULT)
                table.append(Explained(path, getattr(part, key), general.default, where, general.help))
    return [line for line in table if not prefix or f"{line.path}.".startswith(prefix.rstrip(".") + ".")]


def _explained(loaded: Loaded, leaf: Leaf) -> Explained:
    value: object = loaded.settings
    for part in leaf.path.split("."):
        value = getattr(value, part)
    return Explained(leaf.path, value, leaf.default, loaded.origins.get(leaf.path, DEFAULT), leaf.help)


def flag_table() -> list[FlagSpec]:
    """One option per setting, in the schema's order, for the cli to generate."""
    return [
        FlagSpec(
            leaf.path,
            sources.flag_name(leaf.path),
            sources.env_name(leaf.path),
            leaf.kind,
            leaf.default,
            leaf.help,
            leaf.choices,
        )
        for leaf in sources.leaves()
    ]
