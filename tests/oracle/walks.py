"""Walks that Hypothesis invents: steps of lifecycle.py in any order, right ones and mistakes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from hypothesis import strategies as st
from tests.oracle.lifecycle import (
    AFTER_OVERRIDE,
    NAMES,
    POLICIES,
    SERVED_ALREADY,
    SOME_BROKEN,
    VERSIONS,
    Asked,
    Change,
    Line,
    Question,
    Step,
    Walk,
    bad_body,
    grpc_load,
    http_load,
    json_value,
    load,
    marked,
    overriding,
    unload,
)
from tests.oracle.replies import Call
from tests.oracle.requests import Request
from tritonclient.grpc import service_pb2

NOWHERE: Final = "nowhere"

_protocols = st.sampled_from(["http", "grpc"])
_names = st.sampled_from(NAMES)
_versions = st.sampled_from(VERSIONS)
_policies = st.sampled_from(sorted(POLICIES))
_lines = st.one_of(st.none(), *[st.builds(Line, st.integers(1, 9), st.integers(0, 9))] * 3)


@st.composite
def _changes(draw: st.DrawFn) -> Change:
    name = draw(_names)
    method = draw(
        st.sampled_from(
            ["write_version"] * 5 + ["write_config"] * 4 + ["remove_version"] * 2 + ["remove_model", "break_config"]
        )
    )
    if method == "write_version":
        return Change(method, (name, draw(_versions), draw(_lines)))
    if method == "write_config":
        return Change(method, (name, draw(_policies)))
    if method == "remove_version":
        return Change(method, (name, draw(_versions)))
    return Change(method, (name,))


OTHERWISE: Final[Sequence[Mapping[str, Any]]] = (
    {},
    {},
    {"max_batch_size": 2},
    {"max_batch_size": "2"},
    {"max_batch_size": -1},
    {"instance_group": [{"kind": "KIND_CPU", "count": 2}]},
    {"name": "other"},
    {"no_such_field": 1},
)
"""What a configuration may say otherwise: nothing, something right, something wrong."""


@st.composite
def _loads(draw: st.DrawFn, forecast: Forecast) -> Question:
    protocol, name = draw(_protocols), draw(_names)
    if draw(st.integers(0, 2)):
        again = AFTER_OVERRIDE if name in forecast.overridden else ""
        forecast.loaded.add(name)
        forecast.overridden.discard(name)
        return marked(load(protocol, name), SOME_BROKEN if forecast.by_halves(name, None) else again)
    files = draw(st.one_of(st.none(), st.dictionaries(_versions, _lines, max_size=2)))
    policy, changes = draw(_policies), draw(st.sampled_from(OTHERWISE))
    asked = load(protocol, name, overriding(name, policy, files, **changes), f"policy {policy!r}, {dict(changes)}")
    again = SERVED_ALREADY if files and name in forecast.loaded else ""
    forecast.loaded.add(name)
    forecast.overridden.add(name)
    return marked(asked, SOME_BROKEN if forecast.by_halves(name, (policy, files or {})) else again)


@st.composite
def _unloads(draw: st.DrawFn) -> Question:
    parameters = draw(
        st.sampled_from([None, None, None, {}, {"unload_dependents": True}, {"unload_dependents": False}])
    )
    return unload(draw(_protocols), draw(st.sampled_from([*NAMES, *NAMES, NOWHERE])), parameters)


BAD_PARAMETERS: Final[Sequence[Mapping[str, Any]]] = (
    {"config": "{"},
    {"config": ""},
    {"config": "[]"},
    {"config": '{"max_batch_size": "many"}'},
    {"config": '{"no_such_field": 1}'},
    {"config": True},
    {"config": 1},
    {"unknown": True},
    {"unknown": "x"},
    {"file:1/model.onnx": b"x"},
    {"file:1/model.onnx": 1},
    {"config": "{}", "file:1/model.onnx": True},
    {"unload_dependents": 1},
    {"unload_dependents": "x"},
)
BAD_BODIES: Final = (
    b"{",
    b"[]",
    b"null",
    b"1",
    b'{"parameters":1}',
    b'{"parameters":[]}',
    b'{"parameters":null}',
    b"{}",
)


@st.composite
def _mistakes(draw: st.DrawFn) -> Question:
    """Requests that cannot be right; what is loaded must not notice."""
    name = draw(_names)
    match draw(st.sampled_from(["unknown", "parameters", "body", "repository"])):
        case "unknown":
            return load(draw(_protocols), NOWHERE)
        case "parameters":
            parameters = draw(st.sampled_from(BAD_PARAMETERS))
            verb = draw(st.sampled_from(["load", "load", "unload"]))
            if draw(_protocols) == "http":
                given = {key: json_value(value) for key, value in parameters.items()}
                asked: Asked = http_load(name, given, verb)
            else:
                asked = grpc_load(name, parameters, verb.capitalize())
            return Question(asked, asked, f"{verb} {name} with {dict(parameters)} ({type(asked).__name__})")
        case "body":
            return bad_body(name, draw(st.sampled_from(["load", "unload"])), draw(st.sampled_from(BAD_BODIES)))
    message = service_pb2.RepositoryModelLoadRequest(model_name=name, repository_name="other")
    path = f"/v2/repository/other/models/{name}/{draw(st.sampled_from(['load', 'unload']))}"
    over_http = draw(_protocols) == "http"
    asked = (
        Request("POST", path, label="load")
        if over_http
        else Call("RepositoryModelLoad", (message.SerializeToString(),))
    )
    return Question(asked, asked, f"load {name} from another repository ({type(asked).__name__})")


class Forecast:
    """Which versions of a model a load would find broken, and what is loaded, by the steps so far."""

    def __init__(self) -> None:
        self._broken: dict[str, dict[int, bool]] = {"alpha": {1: False, 2: False}, "beta": {1: False, 3: False}}
        self._policy = {"alpha": "", "beta": "all"}
        self.loaded: set[str] = set()
        self.overridden: set[str] = set()

    def note(self, change: Change) -> None:
        """The files change."""
        name = change.arguments[0]
        match change.method:
            case "write_version":
                self._broken[name][change.arguments[1]] = change.arguments[2] is None
            case "remove_version":
                self._broken[name].pop(change.arguments[1], None)
            case "write_config":
                self._policy[name] = change.arguments[1]
            case "remove_model":
                self._broken[name], self._policy[name] = {}, ""

    def by_halves(self, name: str, override: tuple[str, Mapping[int, Line | None]] | None) -> bool:
        """Whether some of the versions that this load chooses are broken, and some are not."""
        policy, broken = self._policy[name], self._broken[name]
        if override is not None:
            policy, files = override
            broken = {version: line is None for version, line in files.items()} or broken
        return len({broken[version] for version in chosen_by(policy, broken)}) == 2


def chosen_by(policy: str, versions: Iterable[int]) -> list[int]:
    """The versions that a policy (`POLICIES`) chooses."""
    there = sorted(versions)
    match policy.split():
        case ["all"]:
            return there
        case ["specific", *named]:
            return [version for version in there if str(version) in named]
        case ["latest", count]:
            return there[-int(count) :]
    return there[-1:]


@st.composite
def walks(draw: st.DrawFn) -> Walk:
    """Loads first, so that something is served; then anything."""
    forecast = Forecast()
    first = draw(st.sampled_from([("alpha",), ("beta",), ("alpha", "beta"), ()]))
    steps: list[Step] = [load(draw(_protocols), name) for name in first]
    forecast.loaded.update(first)
    for kind in draw(st.lists(st.sampled_from(KINDS_OF_STEP), min_size=3, max_size=7)):
        match kind:
            case "change":
                change = draw(_changes())
                forecast.note(change)
                steps.append(change)
            case "load":
                steps.append(draw(_loads(forecast)))
            case "unload":
                steps.append(draw(_unloads()))
            case "mistake":
                steps.append(draw(_mistakes()))
    return Walk(tuple(steps))


KINDS_OF_STEP: Final = ("change", "change", "load", "load", "load", "unload", "mistake", "mistake")
