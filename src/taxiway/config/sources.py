"""The three places that settings come from, each read into the same shape: leaves with their origin.

A leaf is a dotted path of the schema with a value and a `where`. Reading never raises for what a person
wrote: problems are collected, so that all of them can be told at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel

from taxiway.config.problems import Problem, suggest
from taxiway.config.settings import ModelOverride, Settings

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 20
MAX_ALIASES = 100
MAX_NODES = 100_000
"""Nodes after aliases are followed: nine lines of aliases can stand for a billion nodes."""

ENV_PREFIX = "TAXIWAY_"
ENV_CONFIG = "TAXIWAY_CONFIG"

_SERVICE_LINK = re.compile(r"TAXIWAY_(?:[A-Z0-9_]*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?)")
_SERVICE_PORT = re.compile(r"TAXIWAY_(?:[A-Z0-9_]*_)?PORT(?:_\d+_[A-Z]+(?:_(?:PROTO|PORT|ADDR))?)?")
"""Kubernetes puts these into every pod beside a Service called taxiway; they are not settings."""


@dataclass(frozen=True, slots=True)
class Given:
    """One leaf as somebody gave it; `path` has one name per level."""

    path: tuple[str, ...]
    value: object
    where: str


@dataclass(slots=True)
class Reading:
    """What one source held, and what was wrong with it."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Located:
    """A YAML value that knows its line: `content` is a scalar, a list of Located or a dict of Located."""

    content: object
    where: str

    def plain(self) -> object:
        """The value without locations."""
        if isinstance(self.content, dict):
            return {key: value.plain() for key, value in self.content.items()}
        if isinstance(self.content, list):
            return [value.plain() for value in self.content]
        return self.content


# --- the file ------------------------------------------------------------------------------------------


def read_file(path: Path) -> Reading:
    """The leaves of a YAML file of at most MAX_FILE_BYTES."""
    reading = Reading()
    root = read_document(path, reading.problems)
    if root is not None and root.content is not None:
        _flatten(root, (), Settings, reading)
    return reading


def read_document(path: Path, problems: list[Problem]) -> Located | None:
    """The one YAML document in a file of at most MAX_FILE_BYTES, or None with the reason in `problems`."""
    where = str(path)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not UTF-8: {error}"
        problems.append(Problem("", where, f"cannot be read: {reason}", where))
        return None
    if len(raw) > MAX_FILE_BYTES:
        problems.append(Problem("", where, f"must be at most {MAX_FILE_BYTES} bytes", where))
        return None
    return read_yaml(text, where, problems)


class _Loader(
    yaml.reader.Reader,
    yaml.scanner.Scanner,
    yaml.parser.Parser,
    yaml.composer.Composer,
    yaml.resolver.BaseResolver,
):
    """Composes nodes only: constructs no object, resolves no implicit type, bounds depth and aliases."""

    def __init__(self, text: str) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.resolver.BaseResolver.__init__(self)
        self.depth = 0
        self.aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """One node; counts what the plain composer would follow without end."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self.aliases += 1
        self.depth += 1
        if self.depth > MAX_DEPTH or self.aliases > MAX_ALIASES:
            what = f"{MAX_DEPTH} levels deep" if self.depth > MAX_DEPTH else f"{MAX_ALIASES} aliases"
            raise yaml.MarkedYAMLError(problem=f"must be at most {what}", problem_mark=event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(text: str, where: str, problems: list[Problem]) -> Located | None:
    """The one document in `text`, or None with the reason in `problems`."""
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _Converter(where, problems).convert(node, "")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        rule = ": ".join(filter(None, (error.context, error.problem))) or "is not YAML"
        at = where if mark is None else f"{where}:{mark.line + 1}:{mark.column + 1}"
        problems.append(Problem("", "", rule, at))
    except yaml.YAMLError as error:
        problems.append(Problem("", "", f"is not YAML: {str(error).splitlines()[0]}", where))
    return None


_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")}  # what BaseResolver gives to untagged nodes
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_MAX_DIGITS = 40


def plain_scalar(text: str) -> object:
    """An unquoted scalar by YAML 1.2's core rules: `no`, `on` and `12:30` stay text, unlike in YAML 1.1."""
    if text.lower() in _WORDS and text in (text.lower(), text.capitalize(), text.upper()):
        return _WORDS[text.lower()]
    if len(text) <= _MAX_DIGITS and _INT.fullmatch(text):
        return int(text)
    if len(text) <= _MAX_DIGITS and _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Converter:
    """Turns nodes into Located values, counting nodes as aliases multiply them."""

    def __init__(self, where: str, problems: list[Problem]) -> None:
        self._where = where
        self._problems = problems
        self._left = MAX_NODES

    def convert(self, node: yaml.Node, path: str) -> Located:
        """One node and all below it; `path` is for messages."""
        at = f"{self._where}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        self._left -= 1
        if self._left < 0:
            raise yaml.MarkedYAMLError(
                problem=f"must hold at most {MAX_NODES} values, aliases followed",
                problem_mark=node.start_mark,
            )
        if node.tag not in _TAGS:
            self._problems.append(Problem(path, node.tag, "must not carry a YAML tag", at))
            return Located(None, at)
        if isinstance(node, yaml.MappingNode):
            return Located(self._mapping(node, path), at)
        if isinstance(node, yaml.SequenceNode):
            return Located([self.convert(item, f"{path}[{i}]") for i, item in enumerate(node.value)], at)
        unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
        return Located(plain_scalar(node.value) if unquoted else node.value, at)

    def _mapping(self, node: yaml.MappingNode, path: str) -> dict[str, Located]:
        found: dict[str, Located] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            at = f"{self._where}:{mark.line + 1}:{mark.column + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.append(Problem(path, "", "a key must be a plain word", at))
                continue
            key = key_node.value
            inner = f"{path}.{key}" if path else key
            if key in found:
                rule = f"is given twice; the first is at {found[key].where}"
                self._problems.append(Problem(inner, key, rule, at))
                continue
            if key == "<<":
                self._problems.append(Problem(inner, key, "merge keys are not read; repeat the keys", at))
                continue
            value = self.convert(value_node, inner)
            found[key] = Located(value.content, at)  # the key's place is where a person looks
        return found


# --- the environment and the flags ---------------------------------------------------------------------


def read_environment(environ: Mapping[str, str]) -> Reading:
    """The leaves in variables such as TAXIWAY_BATCHING__MAX_DELAY_MS; other prefixes are not ours."""
    reading = Reading()
    known = {env_name(leaf.path): leaf for leaf in leaves()}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name == ENV_CONFIG or _is_service_link(name, environ[name]):
            continue
        path = tuple(name[len(ENV_PREFIX) :].lower().split("__"))
        if name not in known:
            rule = f"is not a setting{suggest(name, known)}"
            reading.problems.append(Problem(".".join(path), environ[name], rule, f"environment {name}"))
            continue
        _read_text(known[name], environ[name], f"environment {name}", reading)
    return reading


def _is_service_link(name: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(name):
        return True
    return bool(_SERVICE_PORT.fullmatch(name)) and (
        value.startswith(("tcp://", "udp://", "sctp://")) or bool(re.search(r"_\d+_", name))
    )


def read_flags(flags: Mapping[str, object]) -> Reading:
    """The leaves in `flags`: dotted path -> string, sequence or value; None if it was not given."""
    reading = Reading()
    known = {leaf.path: leaf for leaf in leaves()}
    for name, value in flags.items():
        if value is None:
            continue
        path = name.removeprefix("--").replace("-", "_")
        where = f"flag {flag_name(path)}"
        if path not in known:
            rule = f"is not a setting{suggest(flag_name(path), map(flag_name, known))}"
            reading.problems.append(Problem(path, value, rule, where))
        elif isinstance(value, str):
            _read_text(known[path], value, where, reading)
        elif isinstance(value, tuple | list):
            _read_sequence(known[path], value, where, reading)
        else:
            _take(known[path], value, where, reading)
    return reading


def _read_sequence(leaf: Leaf, values: Sequence[object], where: str, reading: Reading) -> None:
    """A flag that may be repeated: each time it is `a`, `a,b`, or, if given once, `[a, b]`."""
    if len(values) == 1 and isinstance(values[0], str):
        _read_text(leaf, values[0], where, reading)
        return
    parts: list[object] = []
    for value in values:
        parts += [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else [value]
    _take(leaf, parts, where, reading)


def env_name(path: str) -> str:
    """`batching.max_delay_ms` -> `TAXIWAY_BATCHING__MAX_DELAY_MS`."""
    return ENV_PREFIX + path.replace(".", "__").upper()


def flag_name(path: str) -> str:
    """`batching.max_delay_ms` -> `--batching.max-delay-ms`."""
    return "--" + path.replace("_", "-")


def _read_text(leaf: Leaf, text: str, where: str, reading: Reading) -> None:
    """A value as text: a list is `a,b` or `[a, b]`, a mapping is YAML or JSON; pydantic reads the rest."""
    kind = leaf.kind
    if kind == "list" and not text.lstrip().startswith("["):
        _take(leaf, [part.strip() for part in text.split(",") if part.strip()], where, reading)
    elif kind in ("list", "mapping"):
        located = read_yaml(text, where, reading.problems)
        if located is not None:
            _take(leaf, located.plain(), where, reading)
    else:
        _take(leaf, text, where, reading)


def _take(leaf: Leaf, value: object, where: str, reading: Reading) -> None:
    path = tuple(leaf.path.split("."))
    if leaf.path == OVERRIDES:
        _flatten_overrides(_locate(value, where), path, reading)
    else:
        reading.given.append(Given(path, value, where))


def _locate(value: object, where: str) -> Located:
    if isinstance(value, Mapping):
        return Located({str(key): _locate(item, where) for key, item in value.items()}, where)
    if isinstance(value, list | tuple):
        return Located([_locate(item, where) for item in value], where)
    return Located(value, where)


# --- the schema ----------------------------------------------------------------------------------------

OVERRIDES = "models.overrides"
"""The one leaf that is merged key by key, since each model's part may come from another place."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One setting. `kind` is int, float, bool, choice, text, list or mapping."""

    path: str
    kind: str
    default: object
    help: str
    choices: tuple[str, ...] = ()


def leaves(schema: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Leaf]:
    """Every setting in the order of the schema."""
    for name, info in schema.model_fields.items():
        path = f"{prefix}{name}"
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, path + ".")
            continue
        choices = getattr(annotation, "__args__", ()) if _kind(annotation) == "choice" else ()
        default = info.get_default(call_default_factory=True)
        yield Leaf(path, _kind(annotation), default, " ".join((info.description or "").split()), choices)


def _kind(annotation: object) -> str:
    if isinstance(annotation, type) and annotation in (int, float, bool):
        return annotation.__name__
    text = str(annotation)
    for beginning, kind in (("typing.Literal", "choice"), ("tuple", "list"), ("dict", "mapping")):
        if text.startswith(beginning):
            return kind
    return "text"


def _flatten(located: Located, path: tuple[str, ...], schema: type[BaseModel], reading: Reading) -> None:
    """Walk a section down to its leaves; what the schema does not know is a problem here."""
    if located.content is None:
        return  # a section with all its keys commented out
    dotted = ".".join(path)
    if not isinstance(located.content, dict):
        rule = "must be a mapping of settings" if path else "must be a mapping of sections"
        reading.problems.append(Problem(dotted, located.plain(), rule, located.where))
        return
    for key, value in located.content.items():
        inner = (*path, key)
        info = schema.model_fields.get(key)
        if info is None:
            rule = f"is not a setting{suggest(key, schema.model_fields)}"
            reading.problems.append(Problem(".".join(inner), value.plain(), rule, value.where))
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            _flatten(value, inner, info.annotation, reading)
        elif ".".join(inner) == OVERRIDES:
            _flatten_overrides(value, inner, reading)
        else:
            reading.given.append(Given(inner, value.plain(), value.where))


def _flatten_overrides(located: Located, path: tuple[str, ...], reading: Reading) -> None:
    if located.content is None:
        return
    if not isinstance(located.content, dict):
        rule = "must map model names to their settings"
        reading.problems.append(Problem(".".join(path), located.plain(), rule, located.where))
        return
    for name, value in located.content.items():
        _flatten(value, (*path, name), ModelOverride, reading)
