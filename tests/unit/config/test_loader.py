"""Merging, checking and explaining settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from taxiway.config import sources
from taxiway.config.loader import DEFAULT, explain, flag_table, load, load_settings
from taxiway.config.model_defaults import defaults_from, overrides_from, uses_gpu
from taxiway.config.settings import Settings, is_loopback
from taxiway.core.errors import EXIT_CODES, InvalidConfig


def problems_of(
    file: Path | None = None, environ: dict[str, str] | None = None, flags: dict[str, object] | None = None
) -> list[dict[str, Any]]:
    with pytest.raises(InvalidConfig) as caught:
        load_settings(file, environ or {}, flags or {})
    assert EXIT_CODES[caught.value.kind] == 2
    problems: list[dict[str, Any]] = caught.value.facts["problems"]
    for problem in problems:
        assert problem["rule"] in caught.value.message
        assert problem["where"] in caught.value.message
    return problems


def test_the_defaults_are_good_settings() -> None:
    settings = load_settings(None, {}, {})
    assert settings == Settings()
    assert (settings.http.host, settings.http.port, settings.metrics.port) == ("127.0.0.1", 8000, 8002)
    assert settings.limits.max_body_bytes == 67108864
    assert settings.queue.max_wait_ms == 0
    assert settings.execution.providers == ("CPUExecutionProvider",)
    assert settings.models.paths == ()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().http.port = 1


@given(st.sets(st.sampled_from(["file", "environment", "flag"])), st.permutations([1001, 1002, 1003]))
def test_the_later_source_wins(tmp_path_factory: pytest.TempPathFactory, given_by: set[str], ports: list[int]) -> None:
    file = tmp_path_factory.mktemp("c") / "taxiway.yaml"
    file.write_text(f"http: {{port: {ports[0]}, backlog: 7}}" if "file" in given_by else "http: {backlog: 7}")
    environ = {"TAXIWAY_HTTP__PORT": str(ports[1])} if "environment" in given_by else {}
    flags = {"http.port": ports[2]} if "flag" in given_by else {}
    loaded = load(file, environ, flags)
    order = [("flag", ports[2]), ("environment", ports[1]), ("file", ports[0])]
    source, port = next(((s, p) for s, p in order if s in given_by), ("", 8000))
    assert loaded.settings.http.port == port
    assert loaded.settings.http.backlog == 7  # what the others do not say stays
    where = loaded.origins.get("http.port", "")
    assert where.startswith({"": "", "file": str(file)}.get(source, source))


def test_the_file_may_be_named_by_the_environment_and_the_flag_wins(tmp_path: Path) -> None:
    named, flagged = tmp_path / "env.yaml", tmp_path / "flag.yaml"
    named.write_text("http: {port: 1}")
    flagged.write_text("http: {port: 2}")
    environ = {"TAXIWAY_CONFIG": str(named)}
    assert load_settings(None, environ, {}).http.port == 1
    assert load_settings(flagged, environ, {}).http.port == 2


@pytest.mark.parametrize(
    ("path", "value", "rule"),
    [
        ("http.port", "70000", "must be less than or equal to 65535"),
        ("http.port", "-1", "must be greater than or equal to 0"),
        ("http.port", "abc", "must be a whole number"),
        ("http.port", 1.5, "must be a whole number"),
        ("http.port", True, "must not be true or false"),
        ("http.host", "", "must not be empty"),
        ("http.host", 5, "must be text"),
        ("http.host", "0.0.0.0", "must be a loopback address"),  # noqa: S104
        ("metrics.host", "::", "must be a loopback address"),
        ("metrics.port", "8000", "must differ from http.port"),
        ("metrics.enabled", "maybe", "must be true or false"),
        ("compat", "tritn", "must be 'strict' or 'triton'"),
        ("limits.body_timeout_s", "0", "must be greater than 0"),
        ("limits.body_timeout_s", "nan", "must be a finite number"),
        ("limits.body_timeout_s", "soon", "must be a number"),
        ("limits.max_buffered_bytes", "1000", "must be at least limits.max_body_bytes (67108864)"),
        ("queue.max_bytes", "1000", "must be at least limits.max_body_bytes (67108864)"),
        ("batching.max_delay_ms", "-1", "must be greater than or equal to 0"),
        ("batching.preferred", "4,2", "must be ascending, each size once"),
        ("batching.preferred", "2,2", "must be ascending, each size once"),
        ("batching.preferred", "0,2", "item 0: must be greater than or equal to 1"),
        ("batching.preferred", "1,x", "item 1: must be a whole number"),
        ("batching.max_batch_size", str(1 << 31), "must be less than or equal to 2147483647"),
        ("execution.providers", "[]", "must not be empty"),
        ("execution.provider_options", "{CUDA: {a: b}}", "'CUDA' is not in execution.providers"),
        ("execution.provider_options", "5", "must be a mapping"),
        ("log.level", "verbose", "must be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_each_rule_names_key_value_rule_and_place(path: str, value: object, rule: str) -> None:
    (problem,) = problems_of(flags={path: value})
    assert problem["path"] == path
    assert problem["where"] == f"flag {sources.flag_name(path)}"
    assert problem["rule"].startswith(rule)


def test_every_problem_of_every_source_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "taxiway.yaml"
    file.write_text("http:\n  prot: 1\n  host: 0.0.0.0\nlog: {level: no}\nbatching: {preferred: [4, 2]}\n")
    problems = problems_of(file, {"TAXIWAY_HTTP__PORT": "x"}, {"metrics.prot": "1"})
    assert {(p["path"], p["where"]) for p in problems} == {
        ("http.prot", f"{file}:2:3"),
        ("http.host", f"{file}:3:3"),  # a rule between fields, though other fields are wrong
        ("log.level", f"{file}:4:7"),
        ("batching.preferred", f"{file}:5:12"),
        ("http.port", "environment TAXIWAY_HTTP__PORT"),
        ("metrics.prot", "flag --metrics.prot"),
    }


def test_a_default_that_breaks_a_rule_is_named_as_such() -> None:
    (problem,) = problems_of(flags={"limits.max_body_bytes": 500 << 20})
    assert (problem["path"], problem["value"], problem["where"]) == ("queue.max_bytes", 268435456, DEFAULT)


def test_the_hint_names_a_key_of_the_table() -> None:
    with pytest.raises(InvalidConfig) as caught:
        load_settings(None, {}, {"http.port": "x"})
    assert caught.value.hint == "see `taxiway config explain http.port`"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])  # noqa: S104
def test_insecure_opens_the_doors(host: str) -> None:
    settings = load_settings(None, {}, {"http.host": host, "insecure": "true"})
    assert settings.http.host == host


@pytest.mark.parametrize("section", ["http", "grpc", "metrics"])
@pytest.mark.parametrize(
    "asked",
    [
        {"auth.keys_file": "keys.yaml"},
        {"tls.certificate": "tls.crt", "tls.key": "tls.key", "tls.client_ca": "ca.crt"},
    ],
    ids=["keys", "certificates"],
)
def test_doors_open_where_callers_are_told_apart(section: str, asked: dict[str, object]) -> None:
    beyond = {f"{section}.host": "::"}
    assert getattr(load_settings(None, {}, {**beyond, **asked}), section).host == "::"
    with pytest.raises(InvalidConfig, match=r"set auth\.keys_file or tls\.client_ca, or insecure: true"):
        load_settings(None, {}, beyond)


def test_encryption_alone_tells_nobody_apart() -> None:
    with pytest.raises(InvalidConfig, match="callers are not authenticated"):
        load_settings(None, {}, {"http.host": "::", "tls.certificate": "tls.crt", "tls.key": "tls.key"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tls.certificate": "a"}, "tls.key"),
        ({"tls.key": "a"}, "tls.certificate"),
        ({"tls.client_ca": "a"}, "tls.client_ca"),
    ],
)
def test_half_of_tls_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        load_settings(None, {}, given)


def test_closed_metrics_may_have_any_address() -> None:
    assert not load_settings(None, {}, {"metrics.host": "::", "metrics.enabled": False}).metrics.enabled


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104
        ("localhost.evil.org", False),
        ("127.0.0.1.nip.io", False),
        ("0", False),
        ("2130706433", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# --- overrides of single models ------------------------------------------------------------------------


def test_overrides_of_one_model_come_from_several_places(tmp_path: Path) -> None:
    file = tmp_path / "taxiway.yaml"
    file.write_text(
        "batching: {max_delay_ms: 1}\nmodels: {overrides: {a.b: {batching: {max_delay_ms: 2, best_batch: 3}}}}"
    )
    environ = {"TAXIWAY_MODELS__OVERRIDES": "{a.b: {queue: {max_rows: 5}}}"}
    flags = {"models.overrides": '{"a.b": {"batching": {"max_delay_ms": 4}}}'}
    settings = load_settings(file, environ, flags)
    model = settings.for_model("a.b")
    assert (model.batching.max_delay_ms, model.batching.best_batch, model.queue.max_rows) == (4.0, 3, 5)
    assert model.overridden == {"batching.max_delay_ms", "batching.best_batch", "queue.max_rows"}
    assert settings.for_model("other").batching.max_delay_ms == 1.0
    assert settings.for_model("other").overridden == frozenset()


def test_an_override_that_contradicts_the_server_is_named() -> None:
    flags: dict[str, object] = {
        "batching.max_batch_size": 4,
        "models.overrides": {"a.b": {"batching": {"preferred": [8]}}},
    }
    (problem,) = problems_of(flags=flags)
    assert problem["path"] == "models.overrides.a.b.batching.preferred"
    assert problem["value"] == [8]
    assert problem["where"] == "flag --models.overrides"
    assert problem["rule"].startswith("no size may exceed max_batch_size (4)")


def test_a_wrong_override_is_named_with_its_model() -> None:
    (problem,) = problems_of(flags={"models.overrides": {"m": {"queue": {"max_rows": 0}}}})
    assert problem["path"] == "models.overrides.m.queue.max_rows"


def test_settings_become_defaults_and_overrides_of_a_model_configuration() -> None:
    flags = {
        "batching.max_delay_ms": "1.5",
        "batching.preferred": "4,8",
        "models.overrides": "{m: {batching: {max_batch_size: 9, max_delay_ms: 2},execution: {instances: 3}}}",
    }
    settings = load_settings(None, {}, flags)
    other = settings.for_model("other")
    defaults = defaults_from(other, automatic_max_batch_size=64, instance_count=2)
    assert (defaults.max_batch_size, defaults.max_queue_delay_us, defaults.instance_count) == (64, 1500, 2)
    assert (defaults.preferred_batch_sizes, defaults.gpu) == ((4, 8), False)
    assert overrides_from(other).max_batch_size is None
    model = overrides_from(settings.for_model("m"))
    assert (model.max_batch_size, model.max_queue_delay_us, model.instance_count) == (9, 2000, 3)
    assert model.preferred_batch_sizes is None
    assert model.dynamic_batching is None


@pytest.mark.parametrize(
    ("providers", "gpu"),
    [
        ("CPUExecutionProvider", False),
        ("OpenVINOExecutionProvider,CPUExecutionProvider", False),
        ("CUDAExecutionProvider,CPUExecutionProvider", True),
    ],
)
def test_a_gpu_provider_makes_kind_gpu_possible(providers: str, gpu: bool) -> None:
    model = load_settings(None, {}, {"execution.providers": providers}).for_model("m")
    assert uses_gpu(model) is gpu
    assert defaults_from(model, automatic_max_batch_size=1, instance_count=1).gpu is gpu


# --- telling -------------------------------------------------------------------------------------------


def test_explain_tells_value_origin_and_meaning(tmp_path: Path) -> None:
    file = tmp_path / "taxiway.yaml"
    file.write_text("http:\n  port: 9\nmodels: {overrides: {m: {queue: {max_rows: 5}}}}")
    loaded = load(file, {"TAXIWAY_LOG__LEVEL": "debug"}, {"models.paths": ("/a",)})
    table = {line.path: line for line in explain(loaded)}
    assert (table["http.port"].value, table["http.port"].default) == (9, 8000)
    assert table["http.port"].where == f"{file}:2:3"
    assert table["log.level"].where == "environment TAXIWAY_LOG__LEVEL"
    assert table["models.paths"].value == (Path("/a"),)
    assert table["http.host"].where == DEFAULT
    assert table["http.host"].help.startswith("Address to listen on.")
    override = table["models.overrides.m.queue.max_rows"]
    assert (override.value, override.where) == (5, f"{file}:3:34")


@pytest.mark.parametrize(("prefix", "count"), [("http.port", 1), ("http", 5), ("http.", 5), ("htt", 0)])
def test_explain_picks_a_key_or_a_section(prefix: str, count: int) -> None:
    assert len(explain(load(None, {}, {}), prefix)) == count


def test_the_flag_table_has_every_leaf_once() -> None:
    table = flag_table()
    assert [spec.path for spec in table] == [leaf.path for leaf in sources.leaves()]
    assert len({spec.flag for spec in table}) == len({spec.env for spec in table}) == len(table)


def _written(value: object) -> object:
    return [str(item) for item in value] if isinstance(value, tuple) else value


def test_defaults_given_through_every_source_change_nothing(tmp_path: Path) -> None:
    tree: dict[str, Any] = {}
    environ: dict[str, str] = {}
    flags: dict[str, object] = {}
    for spec in flag_table():
        level = tree
        *sections, key = spec.path.split(".")
        for section in sections:
            level = level.setdefault(section, {})
        level[key] = _written(spec.default)
        text = ",".join(map(str, spec.default)) if isinstance(spec.default, tuple) else str(spec.default)
        environ[spec.env] = text
        flags[spec.path] = text
    file = tmp_path / "taxiway.yaml"
    file.write_text(yaml.safe_dump(tree))
    assert load_settings(file, {}, {}) == Settings()
    assert load_settings(None, environ, {}) == Settings()
    assert load_settings(None, {}, flags) == Settings()


@pytest.mark.parametrize(
    ("written", "text"), [("0", "0"), ("0.5", "0.5"), ("true", "True"), ('"1"', "1"), ("kept", "kept")]
)
def test_provider_options_may_be_plain_scalars(tmp_path: Path, written: str, text: str) -> None:
    path = tmp_path / "taxiway.yaml"
    path.write_text(
        "execution:\n  providers: [CUDAExecutionProvider]\n"
        f"  provider_options: {{CUDAExecutionProvider: {{device_id: {written}}}}}\n"
    )
    options = load_settings(path, {}, {}).execution.provider_options
    assert options == {"CUDAExecutionProvider": {"device_id": text}}


@pytest.mark.parametrize("written", ["[1]", "{a: 1}", "null"])
def test_provider_options_that_are_no_scalars_are_refused(tmp_path: Path, written: str) -> None:
    path = tmp_path / "taxiway.yaml"
    path.write_text(
        "execution:\n  providers: [CUDAExecutionProvider]\n"
        f"  provider_options: {{CUDAExecutionProvider: {{device_id: {written}}}}}\n"
    )
    with pytest.raises(InvalidConfig, match="provider_options"):
        load_settings(path, {}, {})
