"""What a file, the environment and flags hold, and what is said of what they should not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.config import sources
from taxiway.config.problems import Problem


def read(tmp_path: Path, text: str) -> sources.Reading:
    file = tmp_path / "taxiway.yaml"
    file.write_text(text, encoding="utf-8")
    return sources.read_file(file)


def leaves_of(reading: sources.Reading) -> dict[str, object]:
    assert not reading.problems
    return {".".join(given.path): given.value for given in reading.given}


def only(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


def test_leaves_know_their_line_and_column(tmp_path: Path) -> None:
    reading = read(tmp_path, "http:\n  host: ::1\n\n  port: 80\n")
    where = {".".join(given.path): given.where for given in reading.given}
    assert where == {
        "http.host": f"{tmp_path}/taxiway.yaml:2:3",
        "http.port": f"{tmp_path}/taxiway.yaml:4:3",
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "http:\n", "null\n"])
def test_nothing_given_is_nothing(tmp_path: Path, text: str) -> None:
    assert leaves_of(read(tmp_path, text)) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("tRue", "tRue"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("", None),
        ("~", None),
        ("null", None),
        ("12", 12),
        ("-3", -3),
        ("012", 12),
        ("0x10", "0x10"),
        ("12:30:45", "12:30:45"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("2026-11-24", "2026-11-24"),
        (".inf", ".inf"),
        ("9" * 41, "9" * 41),
    ],
)
def test_scalars_are_read_by_yaml_1_2(text: str, value: object) -> None:
    read_value = sources.plain_scalar(text)
    assert read_value == value
    assert type(read_value) is type(value)


def test_a_quoted_number_stays_text(tmp_path: Path) -> None:
    assert leaves_of(read(tmp_path, "http: {host: '12'}")) == {"http.host": "12"}


def test_an_alias_is_followed(tmp_path: Path) -> None:
    text = "batching: {preferred: &sizes [1, 2]}\nmodels: {overrides: {m: {batching: {preferred: *sizes}}}}"
    assert leaves_of(read(tmp_path, text)) == {
        "batching.preferred": [1, 2],
        "models.overrides.m.batching.preferred": [1, 2],
    }


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("http: {prot: 1}", ":1:8", "is not a setting; did you mean 'port'?"),
        ("htp: {}", ":1:1", "is not a setting; did you mean 'http'?"),
        ("zzz: 1", ":1:1", "is not a setting"),
        ("http: 5", ":1:1", "must be a mapping of settings"),
        ("- 1", ":1:1", "must be a mapping of sections"),
        ("http: {}\nhttp: {}", ":2:1", "is given twice; the first is at FILE:1:1"),
        ("http: {port: 1,\n port: 2}", ":2:2", "is given twice; the first is at FILE:1:8"),
        ("http: {<<: {port: 1}}", ":1:8", "merge keys are not read; repeat the keys"),
        ("http: {[1]: 2}", ":1:8", "a key must be a plain word"),
        ("http: {port: !!python/object:os.system x}", ":1:14", "must not carry a YAML tag"),
        ("http: {port: !!int 3}", ":1:14", "must not carry a YAML tag"),
        ("models: {overrides: 5}", ":1:10", "must map model names to their settings"),
        ("models: {overrides: {m: {http: 1}}}", ":1:26", "is not a setting"),
        ("http: [", ":1:8", "while parsing a flow node: expected the node content, but found '<stream end>'"),
        ("a: 1\n---\nb: 2", ":2:1", "expected a single document in the stream: but found another document"),
        ("a: *nope", ":1:4", "found undefined alias 'nope'"),
        ("&a a: &a 1", ":1:7", "found duplicate anchor 'a'; first occurrence: second occurrence"),
        ("http: \x01", "", "is not YAML: unacceptable character #x0001: special characters are not allowed"),
        ("a: " + "[" * 30, ":1:23", "must be at most 20 levels deep"),
    ],
)
def test_problems_of_a_file(tmp_path: Path, text: str, place: str, rule: str) -> None:
    problem = only(read(tmp_path, text).problems)
    file = f"{tmp_path}/taxiway.yaml"
    assert (problem.where, problem.rule) == (file + place, rule.replace("FILE", file))


def test_a_billion_laughs_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    problem = only(read(tmp_path, "\n".join(lines)).problems)
    assert problem.rule == "must hold at most 100000 values, aliases followed"


def test_too_many_aliases_are_refused(tmp_path: Path) -> None:
    problem = only(read(tmp_path, f"a: &a 1\nb: [{', '.join(['*a'] * 101)}]").problems)
    assert problem.rule == "must be at most 100 aliases"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    assert only(read(tmp_path, "#" * (sources.MAX_FILE_BYTES + 1)).problems).rule == "must be at most 1048576 bytes"


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    reading = sources.read_file(tmp_path / "none.yaml")
    assert only(reading.problems).rule == "cannot be read: No such file or directory"


def test_bytes_that_are_not_utf8_are_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(b"http: {host: '\xff'}")
    assert only(sources.read_file(file).problems).rule.startswith("cannot be read: is not UTF-8")


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_raise(text: str) -> None:
    problems: list[Problem] = []
    located = sources.read_yaml(text, "t.yaml", problems)
    assert located is None or not any(p.rule.startswith("is not YAML") for p in problems)


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("TAXIWAY_HTTP__PORT", "80", "http.port", "80"),
        ("TAXIWAY_BATCHING__MAX_DELAY_MS", "2.5", "batching.max_delay_ms", "2.5"),
        ("TAXIWAY_COMPAT", "triton", "compat", "triton"),
        ("TAXIWAY_MODELS__PATHS", "/a, /b,", "models.paths", ["/a", "/b"]),
        ("TAXIWAY_BATCHING__PREFERRED", "[1, 2]", "batching.preferred", [1, 2]),
        ("TAXIWAY_BATCHING__PREFERRED", "", "batching.preferred", []),
        (
            "TAXIWAY_EXECUTION__PROVIDER_OPTIONS",
            '{"CPU": {"a": "b"}}',
            "execution.provider_options",
            {"CPU": {"a": "b"}},
        ),
        (
            "TAXIWAY_MODELS__OVERRIDES",
            "{a.b: {queue: {max_rows: 3}}}",
            "models.overrides.a.b.queue.max_rows",
            3,
        ),
    ],
)
def test_environment(name: str, text: str, path: str, value: object) -> None:
    reading = sources.read_environment({name: text, "PATH": "/bin"})
    assert leaves_of(reading) == {path: value}
    assert reading.given[0].where == f"environment {name}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TAXIWAY_CONFIG", "x.yaml"),
        ("TAXIWAY_SERVICE_HOST", "10.0.0.1"),
        ("TAXIWAY_SERVICE_PORT", "80"),
        ("TAXIWAY_SERVICE_PORT_HTTP", "80"),
        ("TAXIWAY_PORT", "tcp://10.0.0.1:80"),
        ("TAXIWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("TAXIWAY_PORT_80_TCP_PORT", "80"),
        ("TAXIWAY_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("TAXIWAY_CONTROL_SERVICE_HOST", "10.0.0.1"),
        ("taxiway_http__port", "80"),
    ],
)
def test_variables_that_are_not_settings_are_left_alone(name: str, value: str) -> None:
    reading = sources.read_environment({name: value})
    assert (reading.given, reading.problems) == ([], [])


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("TAXIWAY_HTTP__PROT", "is not a setting; did you mean 'TAXIWAY_HTTP__PORT'?"),
        ("TAXIWAY_PORT", "is not a setting; did you mean"),
        ("TAXIWAY_HTTP", "is not a setting; did you mean"),
    ],
)
def test_unknown_variables(name: str, rule: str) -> None:
    problem = only(sources.read_environment({name: "80"}).problems)
    assert problem.rule.startswith(rule)
    assert problem.where == f"environment {name}"


@pytest.mark.parametrize(
    ("name", "given_value", "path", "value"),
    [
        ("http.port", "80", "http.port", "80"),
        ("--batching.max-delay-ms", 2.5, "batching.max_delay_ms", 2.5),
        ("models.paths", ("a", "b"), "models.paths", ["a", "b"]),
        ("models.paths", "a,b", "models.paths", ["a", "b"]),
        ("insecure", True, "insecure", True),
        ("models.overrides", {"m": {"queue": {"max_rows": 3}}}, "models.overrides.m.queue.max_rows", 3),
    ],
)
def test_flags(name: str, given_value: object, path: str, value: object) -> None:
    reading = sources.read_flags({name: given_value, "http.host": None})
    assert leaves_of(reading) == {path: value}
    assert reading.given[0].where.startswith("flag --")


@pytest.mark.parametrize(
    ("given_value", "value"),
    [
        (("4,8",), ["4", "8"]),
        (("4", "8"), ["4", "8"]),
        (("4, 8", "16"), ["4", "8", "16"]),
        (("[4, 8]",), [4, 8]),
    ],
)
def test_a_repeated_flag_splits_at_commas_as_the_environment_does(given_value: object, value: object) -> None:
    assert leaves_of(sources.read_flags({"batching.preferred": given_value})) == {"batching.preferred": value}


def test_paths_on_the_command_line_may_hold_commas() -> None:
    reading = sources.read_flags({"models.paths": [Path("a,b.onnx")]})
    assert leaves_of(reading) == {"models.paths": [Path("a,b.onnx")]}


def test_unknown_flags() -> None:
    problem = only(sources.read_flags({"http.prot": "1"}).problems)
    assert str(problem) == "flag --http.prot: http.prot = '1': is not a setting; did you mean '--http.port'?"


@pytest.mark.parametrize("leaf", list(sources.leaves()), ids=lambda leaf: leaf.path)
def test_every_setting_has_one_path_three_ways_and_a_meaning(leaf: sources.Leaf) -> None:
    assert sources.flag_name(leaf.path)[2:].replace("-", "_") == leaf.path
    assert sources.env_name(leaf.path)[len("TAXIWAY_") :].lower().replace("__", ".") == leaf.path
    assert leaf.help.endswith(".") or leaf.help.endswith("`.")
    assert (leaf.kind == "choice") == bool(leaf.choices)
    assert leaf.kind in ("int", "float", "bool", "choice", "text", "list", "mapping")


def test_kinds_of_leaves() -> None:
    kinds = {leaf.path: leaf.kind for leaf in sources.leaves()}
    assert kinds["http.host"] == "text"
    assert kinds["http.port"] == "int"
    assert kinds["limits.idle_timeout_s"] == "float"
    assert kinds["insecure"] == "bool"
    assert kinds["compat"] == "choice"
    assert kinds["models.paths"] == "list"
    assert kinds["models.overrides"] == "mapping"
