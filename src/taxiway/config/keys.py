"""The file of API keys: who may call, what, and until when. It never holds a key, only what a key hashes to.

A key is made by `new_key`, 32 random bytes, so its SHA-256 tells nothing about it and cannot be searched for: slow
hashes are for passwords, which people choose.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from taxiway.config.problems import Problem, invalid_config, suggest
from taxiway.config.sections import Section
from taxiway.config.sources import Located, read_document

Scope = Literal["infer", "read", "rollout", "admin", "metrics"]
SCOPES: tuple[Scope, ...] = ("infer", "read", "rollout", "admin", "metrics")
MAX_KEYS = 10_000
_PREFIX = "tw_"
_RANDOM_BYTES = 32
_HINT = "`taxiway keys new NAME --scope infer` prints an entry"
_RULES = {
    "missing": "is needed",
    "extra_forbidden": "is not a member of a key",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "too_short": "must not be empty",
    "model_type": "must be a mapping with name, sha256 and scopes",
}
_PATTERN_RULES = {
    "name": "must be letters, digits and ._@-, beginning with a letter or digit, at most 64 characters",
    "sha256": "must be 64 hexadecimal digits in lower case: the SHA-256 of the key, never the key",
}


def _as_moment(value: object) -> object:
    """A date or a time in ISO 8601; without a zone it is UTC. A number would be read as seconds since 1970."""
    if value is None or isinstance(value, dt.datetime):
        return value
    try:
        moment = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise PydanticCustomError("rule", "must be a date or a time: 2027-01-31 or 2027-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


class KeyEntry(Section):
    """One key of the file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
    """Who calls with it, for logs and errors: letters, digits and `._@-`, at most 64 characters."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of the key, 64 hexadecimal digits in lower case."""

    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    """What it may do: `infer`; `read` (metadata, configuration, statistics, index, rollouts); `rollout` (begin, pause
    and take back rollouts); `admin` (load, unload, settings, shared memory; overrule a rollout's evidence);
    `metrics`."""

    models: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=256)], ...], Field(min_length=1)] = ("*",)
    """Which models, as patterns with `*`, `?` and `[...]`. Unless one is `*`, what concerns the whole server is
    refused."""

    expires: Annotated[dt.datetime | None, BeforeValidator(_as_moment)] = None
    """The moment from which on it is refused, in ISO 8601; a date is its first moment in UTC. Empty: never."""


@dataclass(frozen=True, slots=True)
class KeysFile:
    """A file that was read. `open_to_others` says whether more than its owner may read or write it."""

    entries: tuple[KeyEntry, ...]
    open_to_others: bool


def new_key() -> str:
    """A key that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_key(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> KeysFile:
    """The keys in a YAML file: a mapping with one list, `keys`.

    Raises:
        InvalidConfig: it cannot be read or breaks a rule; every problem is told, with its line.
    """
    problems: list[Problem] = []
    root = read_document(path, problems)
    entries = [] if problems else _read_entries(root, str(path), problems)
    if problems:
        raise invalid_config(f"the keys file {path}", problems, hint=_HINT)
    try:
        mode = path.stat().st_mode
    except OSError:  # gone since it was read
        mode = 0
    return KeysFile(tuple(entries), bool(mode & (stat.S_IRWXG | stat.S_IRWXO)))


def _read_entries(root: Located | None, where: str, problems: list[Problem]) -> list[KeyEntry]:
    """The entries that are right; what is wrong with the others is added to `problems`."""
    document = {} if root is None or root.content is None else root.content
    if not isinstance(document, dict):
        problems.append(Problem("", where, "must be a mapping with one list, `keys`", where))
        return []
    for name, value in document.items():
        if name != "keys":
            problems.append(Problem(name, "", f"is not known here{suggest(name, ['keys'])}", value.where))
    listed = document.get("keys", Located(None, where))
    if not isinstance(listed.content, list):
        problems.append(Problem("keys", "", "must be a list of keys", listed.where))
        return []
    if len(listed.content) > MAX_KEYS:
        problems.append(Problem("keys", len(listed.content), f"must be at most {MAX_KEYS}", listed.where))
        return []
    entries = []
    places: dict[tuple[str, str], str] = {}
    for index, item in enumerate(listed.content):
        entry = _read_entry(item, f"keys[{index}]", problems)
        if entry is not None:
            _refuse_twice(entry, item, f"keys[{index}]", places, problems)
            entries.append(entry)
    return entries


def _read_entry(item: Located, path: str, problems: list[Problem]) -> KeyEntry | None:
    try:
        return KeyEntry.model_validate(item.plain())
    except ValidationError as error:
        problems += [_problem(detail, item, path) for detail in error.errors()]
        return None


def _problem(detail: ErrorDetails, item: Located, path: str) -> Problem:
    """Told at the line of the innermost part that is there."""
    at = item
    for part in detail["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
        inner = at.content
        if isinstance(inner, list) and isinstance(part, int) and part < len(inner):
            at = inner[part]
        elif isinstance(inner, dict) and str(part) in inner:
            at = inner[str(part)]
    rule = _RULES.get(detail["type"], detail["msg"]).replace("Input should be", "must be")
    if detail["type"] == "extra_forbidden":
        rule += suggest(str(detail["loc"][-1]), KeyEntry.model_fields)
    elif detail["type"] == "string_pattern_mismatch":
        rule = _PATTERN_RULES[str(detail["loc"][0])]
    value = "" if detail["type"] in ("missing", "extra_forbidden") or _may_be_a_key(detail) else at.plain()
    return Problem(path, value, rule, at.where)


def _may_be_a_key(detail: ErrorDetails) -> bool:
    """Whoever writes the key itself where its hash belongs shall not find it in the log as well."""
    return "sha256" in detail["loc"] or not detail["loc"]


def _refuse_twice(
    entry: KeyEntry, item: Located, path: str, places: dict[tuple[str, str], str], problems: list[Problem]
) -> None:
    for member, value in (("name", entry.name), ("sha256", entry.sha256)):
        first = places.setdefault((member, value), item.where)
        if first != item.where:
            problems.append(Problem(f"{path}.{member}", value, f"is given twice; the first is at {first}", item.where))
