"""The registry from the terminal: what is printed, what scripts read, how it ends."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from tests.flow.serving import serve
from tests.support import onnx_models
from tests.support.registries import register

from taxiway.cli.main import taxiway
from taxiway.cli.served_refs import find_sources
from taxiway.config.settings import ModelsSettings, RegistrySettings, Settings
from taxiway.core.errors import AliasMoved, DataLoss, InvalidArgument, NotFound, TaxiwayError, VersionNotRegistered
from taxiway.registry import Manifest, NewVersion, Registry

Run = Callable[..., str]


@pytest.fixture
def settings(tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(
        url=f"sqlite:///{tmp_path}/registry.db",
        blobs=str(tmp_path / "blobs"),
        cache=str(tmp_path / "cache"),
        actor="eve",
    )


@pytest.fixture
def run(settings: RegistrySettings) -> Run:
    environ = {f"TAXIWAY_REGISTRY__{name.upper()}": value for name, value in settings.model_dump().items()}

    def invoke(*words: str) -> str:
        result = CliRunner(env=environ).invoke(taxiway, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return invoke


@pytest.fixture
def registry(settings: RegistrySettings) -> Any:
    with Registry.open(settings.url, settings.blobs) as opened:
        yield opened


def test_a_version_is_found_moved_and_explained(run: Run, registry: Registry) -> None:
    signature = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]}
    register(registry, content=b"1", signature=signature)
    register(registry, content=b"2")
    assert run("alias", "set", "fraud@stable", "1", "--expect", "none", "--why", "go") == "fraud@stable: none -> 1\n"
    assert run("alias", "set", "fraud@stable", "2", "--expect", "1", "--why", "on") == "fraud@stable: 1 -> 2\n"
    assert "fraud  2         stable=2" in run("models")
    assert [line.split()[:2] for line in run("models", "fraud").splitlines()[1:]] == [
        ["fraud:2", "stable"],
        ["fraud:1", "-"],
    ]
    assert [line.split()[0] for line in run("models", "fraud", "--after", "2").splitlines()[1:]] == ["fraud:1"]
    assert "x FP32[-1,4]" in run("show", "fraud:1")
    told = run("why", "fraud@stable")
    assert told.startswith("fraud:2  (fraud@stable means it now)\n")
    assert "fraud:2 made from file:///m.onnx" in told
    assert "fraud@stable: 1 -> 2  eve  on" in told
    assert "fraud@stable  fraud:2" in run("serving-at", "now")
    assert run("serving-at", "2020-01-01T00:00:00Z") == "no alias pointed to anything then\n"
    assert "fraud@stable: 1 -> 2" in run("alias", "history", "fraud@stable")
    assert run("alias", "delete", "fraud@stable", "--why", "gone") == "fraud@stable: 2 -> none\n"
    assert run("audit", "verify").startswith("5 entries, unbroken")


def test_scripts_read_json(run: Run, registry: Registry) -> None:
    version = register(registry)
    run("tag", "set", "fraud:1", "owner", "risk")
    run("tag", "set", "fraud", "team", "a")
    move = json.loads(run("alias", "set", "fraud@stable", "1", "--why", "go", "--output", "json"))
    assert (move["from_version"], move["to_version"], move["by"]) == (None, 1, "eve")
    shown = json.loads(run("show", "fraud", "--output", "json"))
    assert (shown["digest"], shown["tags"], shown["aliases"]) == (version.digest, {"owner": "risk"}, ["stable"])
    (model,) = json.loads(run("models", "--output", "json"))
    assert (model["aliases"], model["tags"]) == ({"stable": 1}, {"team": "a"})
    run("tag", "delete", "fraud@stable", "owner")
    assert [entry["kind"] for entry in json.loads(run("audit", "log", "--output", "json"))] == [
        "version-registered",
        "tag-set",
        "tag-set",
        "alias-moved",
        "tag-deleted",
    ]
    assert json.loads(run("registry", "info", "--output", "json"))["entries"] == 5


def test_upkeep(run: Run, registry: Registry, tmp_path: Path) -> None:
    register(registry, content=b"weights")
    registry.put_bytes(b"nobody's")
    assert "1 unused blobs, 8 B, would be deleted" in run("registry", "gc", "--dry-run", "--grace-s", "0")
    assert "1 unused blobs, 8 B, deleted" in run("registry", "gc", "--grace-s", "0")
    assert "2 audit entries and 2 blobs (8 B) are as they were written" in run("registry", "verify")
    run("registry", "export", "fraud:1", str(tmp_path / "out"))
    assert (tmp_path / "out/fraud/1/model.onnx").read_bytes() == b"weights"
    next((tmp_path / "blobs/sha256").rglob("*/*")).unlink()
    with pytest.raises(DataLoss, match="1 of 2 blobs are damaged"):
        run("registry", "verify")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["show", "nobody"], VersionNotRegistered),
        (["alias", "set", "fraud", "1", "--why", "x"], InvalidArgument),
        (["alias", "set", "fraud@stable", "1", "--expect", "7", "--why", "x"], AliasMoved),
        (["serving-at", "yesterday"], InvalidArgument),
        (["serving-at", "2026-01-01"], InvalidArgument),
        (["models", "fraud", "--registry.url", "mysql://x"], InvalidArgument),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(
    run: Run, registry: Registry, words: list[str], error: type[TaxiwayError]
) -> None:
    register(registry)
    with pytest.raises(error) as caught:
        run(*words)
    assert caught.value.hint


def test_an_expectation_is_a_version_or_none(run: Run) -> None:
    result = CliRunner().invoke(taxiway, ["alias", "set", "a@b", "1", "--expect", "some", "--why", "x"])
    assert result.exit_code == 2
    assert "neither the number of a version nor none" in result.output


def test_every_verb_explains_itself(run: Run) -> None:
    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        assert command.help or command.short_help, words
        if isinstance(command, click.Group):
            with click.Context(command) as context:
                for name in command.list_commands(context):
                    child = command.get_command(context, name)
                    assert child is not None
                    walk(child, (*words, name))

    walk(taxiway, ())


# --- serving -------------------------------------------------------------------------------------------


def register_doubler(registry: Registry, folder: Path) -> None:
    file = onnx_models.doubler(folder / "double.onnx")
    manifest = Manifest.of([registry.put_file(file).at("@/model.onnx")])
    registry.register(NewVersion("double", manifest, "onnx"), actor="ada", why="go")


def test_a_registered_model_is_served_by_its_reference(
    registry: Registry, settings: RegistrySettings, tmp_path: Path
) -> None:
    register_doubler(registry, tmp_path)
    registry.set_alias("double", "stable", 1, expect=None, actor="ada", why="go")
    (path,) = find_sources(["double@stable"], settings, {}).paths
    assert find_sources(["double:1"], settings, {}).paths == (path,)
    with serve(path) as server:
        assert server.ask("GET", "/v2/models/double/versions/1/ready").status == 200


def test_what_an_import_trusted_is_trusted_for_its_model_and_nothing_else_is(
    registry: Registry, settings: RegistrySettings, tmp_path: Path
) -> None:
    stored = registry.put_file(onnx_models.doubler(tmp_path / "double.onnx"))
    said = {"scan": {"trusted": [f"sha256:{stored.sha256}", f"sha256:{'0' * 64}"]}}
    new = NewVersion("double", Manifest.of([stored.at("@/model.onnx")]), "onnx", facts=said)
    registry.register(new, actor="ada", why="go")
    trust = find_sources(["double"], settings, {}).trust
    assert trust == {"double": (f"sha256:{stored.sha256}",)}
    trusting = Settings(models=ModelsSettings(trust=("sha256:" + "1" * 64,))).trusting(trust)
    assert trusting.for_model("double").trust == ("sha256:" + "1" * 64, *trust["double"])
    assert trusting.for_model("other").trust == ("sha256:" + "1" * 64,)
    assert Settings.model_validate(trusting.model_dump(mode="json", exclude_unset=True)) == trusting, (
        "as a worker gets it"
    )


def test_a_path_that_is_there_is_a_path(settings: RegistrySettings, tmp_path: Path) -> None:
    words = [str(tmp_path), str(tmp_path / "not/there")]
    assert find_sources(words, settings, {}).paths == tuple(map(Path, words))
    assert not (tmp_path / "registry.db").exists()


def test_what_is_neither_a_path_nor_registered_is_told_so(settings: RegistrySettings, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"'model\.onnx' is neither a path that exists nor a model registered in sqlite"):
        find_sources(["model.onnx"], settings, {})
    assert not (tmp_path / "registry.db").exists()
    with Registry.open(settings.url, settings.blobs) as registry:
        register_doubler(registry, tmp_path)
    with pytest.raises(NotFound, match="'double@stable' is neither") as caught:
        find_sources(["double@stable"], settings, {})
    assert "taxiway alias set double@stable" in caught.value.hint


def test_two_versions_of_one_model_are_not_served_at_once(settings: RegistrySettings) -> None:
    with pytest.raises(InvalidArgument, match="double:1 and double@stable name versions of one model"):
        find_sources(["double:1", "double@stable"], settings, {})
