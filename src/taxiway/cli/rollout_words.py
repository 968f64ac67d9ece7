"""A rollout's plan from words of the command line: a file, then options, then single keys, each over those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taxiway.config.problems import Problem, invalid_config
from taxiway.config.sources import read_document
from taxiway.core.errors import InvalidArgument


def plan_words(file: Path | None, given: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The plan as plain data, which the control process checks; what was not said is left to the manifest.

    Args:
        file: a plan in YAML.
        given: `to`, `strategy`, `steps` as `1,5,100` and `arms` as `NAME=VERSION:PERCENT`; what is None or empty was
            not said.
        settings: single keys as `guards.alpha=0.01`.

    Raises:
        InvalidArgument: one of them is not of its form.
        InvalidConfig: the file cannot be read.
    """
    plan: dict[str, Any] = dict(_read(file)) if file is not None else {}
    if given["to"] is not None:
        plan["to"] = given["to"]
    if given["strategy"] is not None:
        plan["strategy"] = given["strategy"]
    if given["steps"] is not None:
        plan["steps"] = [_number("--steps", part) for part in given["steps"].split(",")]
    if given["arms"]:
        plan["arms"] = [_arm(text) for text in given["arms"]]
    for text in settings:
        _set(plan, text)
    return plan


def _read(file: Path) -> Mapping[str, Any]:
    problems: list[Problem] = []
    document = read_document(file, problems)
    plan = None if document is None else document.plain()
    if document is not None and not isinstance(plan, dict):
        problems.append(Problem("", str(file), "must be a mapping, as `strategy: canary`", str(file)))
    if problems or not isinstance(plan, dict):
        raise invalid_config("the rollout's plan", problems, hint="docs/rollouts.md shows one")
    return plan


def _arm(text: str) -> dict[str, Any]:
    name, _, rest = text.partition("=")
    version, _, percent = rest.rpartition(":")
    if not (name and version and percent):
        raise InvalidArgument(
            f"--arm {text!r} is not of the form NAME=VERSION:PERCENT", hint="as in --arm new=7:10", value=text
        )
    return {"name": name, "to": version, "percent": _number("--arm", percent)}


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(
            f"{option}: {text!r} is no number", hint="write percent as in 1,5,10,25,50,100", value=text
        ) from None


def _set(plan: dict[str, Any], text: str) -> None:
    """Put the value at its dotted key; what it means is read as YAML reads it."""
    import yaml  # noqa: PLC0415 - for those who use it

    key, mark, value = text.partition("=")
    if not (key and mark):
        raise InvalidArgument(f"--set {text!r} is not of the form KEY=VALUE", hint="as in --set guards.alpha=0.01")
    place = plan
    *sections, last = key.split(".")
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise InvalidArgument(f"--set {text!r}: {section!r} is no section of a plan", value=text)
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InvalidArgument(f"--set {text!r}: the value is no YAML", hint="quote it", value=text) from None
