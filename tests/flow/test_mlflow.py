"""A real MLflow, on SQLite and through its own client, as a source, as something to follow, and as a mirror."""

from __future__ import annotations

import http.server
import importlib
import json
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression
from tests.support.mlflow_places import EXPERIMENT, MlflowPlace, adder, quiet
from tests.support.registries import ToldClock

from taxiway.cli.main import taxiway
from taxiway.core.errors import (
    AlreadyRegistered,
    ExtraMissing,
    InvalidArgument,
    MlflowUnavailable,
    NotFound,
    OversizedArtifact,
    UnrecognisedModel,
    UntrustedPickle,
)
from taxiway.intake.limits import Limits
from taxiway.intake.mlflow import server
from taxiway.intake.mlflow.following import Follower, Look, Wish
from taxiway.intake.mlflow.mirror import Deliverer, Told
from taxiway.intake.mlflow.server import Mlflow
from taxiway.intake.mlflow.source import MAX_KEPT, mlflow_schemes
from taxiway.intake.mlflow.uris import MlflowUri
from taxiway.intake.walk import Imported, Office, Wanted, import_models
from taxiway.registry import Registry

CHAMPION = "models:/fraud@champion"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """mlflow writes its URI into the environment, and a database into the directory it is in, if it is not told."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def place(tmp_path: Path) -> MlflowPlace:
    return MlflowPlace.new(tmp_path / "mlflow")


@pytest.fixture
def clock() -> ToldClock:
    return ToldClock()


@pytest.fixture
def registry(tmp_path: Path, clock: ToldClock) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{tmp_path}/registry.db", str(tmp_path / "blobs"), clock=clock) as opened:
        yield opened


class Desk:
    """One registry and one MLflow, worked with as the command line does."""

    def __init__(self, place: MlflowPlace, registry: Registry, work: Path) -> None:
        self.uri = place.uri
        self.registry = registry
        self.office = Office(work, schemes=mlflow_schemes(self.connect, work))

    def connect(self) -> Mlflow:
        return Mlflow.connect(self.uri)

    def take(self, source: str, **said: Any) -> Imported:
        wanted = Wanted(source, **{"actor": "ada", "why": "a test", **said})
        (imported,) = import_models(wanted, self.office, self.registry)
        return imported

    def look(self, *uris: str, **said: Any) -> list[Look]:
        wishes = [
            Wish(MlflowUri.parse(uri), **{"alias": "candidate", "why": "go", "actor": "ci", **said})
            for uri in uris or (CHAMPION,)
        ]
        looks: list[Look] = []
        Follower(self.connect, self.registry, self.office, looks.append).reconcile_followed(wishes)
        return looks

    def sync(self) -> list[tuple[str, str]]:
        told: list[Told] = []
        Deliverer(self.connect, self.registry, "ci", told.append).reconcile_mirror()
        return [(one.subject, one.outcome) for one in told]


@pytest.fixture
def desk(place: MlflowPlace, registry: Registry, tmp_path: Path) -> Desk:
    return Desk(place, registry, tmp_path / "work")


# --- as a source ---------------------------------------------------------------------------------------


def log_sklearn(place: MlflowPlace) -> Any:
    rows = np.array([[0.0], [1.0]])
    with place.client(), quiet() as mlflow:
        importlib.import_module("mlflow.sklearn")
        mlflow.set_experiment(EXPERIMENT)
        with mlflow.start_run():
            mlflow.log_metrics({"auc": 0.75, "loss": float("nan")} | {f"z{n:03}": 1.0 for n in range(MAX_KEPT)})
            mlflow.log_param("note", "x" * 400)
            return mlflow.sklearn.log_model(
                LogisticRegression().fit(rows, [0, 1]),
                name="classifier",
                registered_model_name="fraud",
                input_example=rows,
                pip_requirements=[],
            )


def test_a_logged_model_comes_with_its_history(place: MlflowPlace, desk: Desk) -> None:
    info = log_sklearn(place)
    place.point("champion", "1")
    imported = desk.take(CHAMPION)
    assert imported.version is not None
    origin = imported.version.origin
    assert (imported.version.ref, imported.model.framework) == ("fraud:1", "mlflow-sklearn")
    assert [(spec.name, spec.shape) for spec in imported.model.inputs] == [("input__0", (-1, 1))]
    assert (origin["source"], origin["asked"]) == ("models:/fraud/1", CHAMPION)
    assert (origin["registered_model"], origin["model_version"], origin["aliases"]) == ("fraud", "1", ["champion"])
    assert (origin["experiment"], origin["run_id"], origin["model_id"]) == (EXPERIMENT, info.run_id, info.model_id)
    assert (origin["metrics"]["auc"], origin["metrics"]["loss"]) == (0.75, "nan")
    assert (len(origin["metrics"]), len(origin["params"]["note"])) == (MAX_KEPT, 250)
    assert origin["digest"].startswith("sha256:")
    steps = {(step.edge.kind, step.edge.parent) for step in desk.registry.why("fraud:1").lineage}
    assert steps == {("artifact", "models:/fraud/1"), ("trained-by", f"mlflow:run/{info.run_id}")}
    for other in (f"models:/{info.model_id}", f"runs:/{info.run_id}/classifier", "models:/fraud/1"):
        with pytest.raises(AlreadyRegistered):
            desk.take(other, name="fraud")


def test_an_artifact_of_a_run(place: MlflowPlace, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    place.log(adder(tmp_path / "files", 1).parent)
    with place.client() as client:
        run = client.get_model_version("fraud", "1").run_id
    imported = desk.take(f"runs:/{run}/model/model.onnx")
    assert (imported.name, imported.model.framework, "registered_model" in imported.origin) == (
        "model.onnx",
        "onnx",
        False,
    )
    assert desk.take("models:/fraud/1").name == "fraud"


def test_an_import_that_was_cut_short_gets_its_lineage(place: MlflowPlace, desk: Desk, tmp_path: Path) -> None:
    place.log_adder(1)
    lonely = Office(tmp_path / "work", schemes={})
    files = next((place.folder / "artifacts").rglob("model.onnx")).parent
    import_models(Wanted(str(files), name="fraud", actor="ada", why="go"), lonely, desk.registry)
    with pytest.raises(AlreadyRegistered):
        desk.take("models:/fraud/1")
    assert [step.edge.kind for step in desk.registry.why("fraud:1").lineage] == ["artifact", "trained-by"]


def test_what_is_not_there_is_told(place: MlflowPlace, desk: Desk) -> None:
    place.log_adder(1)
    place.point("champion", "1")
    for uri, said in {
        "models:/fraud@stable": "no alias 'stable'",
        "models:/nobody@stable": "nobody",
        "models:/fraud/7": "version=7",
        "models:/m-nobody": "m-nobody",
        "runs:/nobody/model": "nobody",
    }.items():
        with pytest.raises(NotFound, match=said):
            desk.take(uri)
    for uri in ("models:/fraud/latest", "models:/fraud/Production", "models:/fraud", "runs:/x", "runs:/x/../y"):
        with pytest.raises(InvalidArgument, match="names no model in MLflow"):
            desk.take(uri)


def test_no_mlflow_where_one_was_said_to_be(desk: Desk, tmp_path: Path) -> None:
    for uri, error in {
        "": InvalidArgument,
        "http://127.0.0.1:9": MlflowUnavailable,
        f"sqlite:///{tmp_path}/none.db": NotFound,
        "gopher://x": InvalidArgument,
    }.items():
        desk.uri = uri
        with pytest.raises(error):
            desk.take(CHAMPION)
    assert not (tmp_path / "none.db").exists()


def test_without_the_extra_the_error_names_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(ExtraMissing, match="client is not there") as caught:
        desk.take(CHAMPION)
    assert caught.value.hint == "pip install taxiway[mlflow]"


def test_a_password_is_kept_out(place: MlflowPlace) -> None:
    assert server.shown("https://ada:secret@mlflow.example/a?b") == "https://ada:***@mlflow.example/a?b"
    assert server.shown(place.uri) == place.uri


# --- artifacts of a server -----------------------------------------------------------------------------


class ArtifactServer(http.server.BaseHTTPRequestHandler):
    """What an MLflow server answers to who lists and reads artifacts."""

    root: Path

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        below = url.path.partition("/mlflow-artifacts/artifacts")[2].strip("/")
        path = self.root / unquote(below)
        if path.is_file():
            self._answer(path.read_bytes())
            return
        listed = path / parse_qs(url.query).get("path", [""])[0]
        entries = sorted(listed.iterdir()) if listed.is_dir() else []
        files = [
            {"path": one.name, "is_dir": one.is_dir()} | ({} if one.is_dir() else {"file_size": one.stat().st_size})
            for one in entries
        ]
        self._answer(json.dumps({"files": files}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def artifacts(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "remote"
    (root / "model" / "deep").mkdir(parents=True)
    handler = type("Handler", (ArtifactServer,), {"root": root})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/api/2.0/mlflow-artifacts/artifacts", root
        listening.shutdown()
        thread.join()


def test_artifacts_are_fetched_within_limits(place: MlflowPlace, artifacts: tuple[str, Path], tmp_path: Path) -> None:
    url, root = artifacts
    adder(root / "model", 1)
    (root / "model/deep/more.txt").write_text("more")
    mlflow = Mlflow.connect(place.uri)
    into = tmp_path / "into"
    into.mkdir()
    fetched = mlflow.fetch(f"{url}/model", into, Limits())
    found = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert found == {"model.onnx", "deep/more.txt"}
    assert fetched.is_relative_to(into)
    for limits in (Limits(max_bytes=100), Limits(max_files=2)):
        with pytest.raises(OversizedArtifact):
            mlflow.fetch(f"{url}/model", into, limits)


# --- followed ------------------------------------------------------------------------------------------


def test_an_alias_is_followed(place: MlflowPlace, desk: Desk) -> None:
    assert [(look.outcome, look.problem) for look in desk.look()] == [("rested", "the alias is not there")]
    for amount in (1, 2):
        place.log_adder(amount, auc=0.5 + amount / 10)
    place.point("champion", "1")
    assert [(look.outcome, look.ref) for look in desk.look()] == [("placed", "fraud:1")]
    assert [look.outcome for look in desk.look()] == ["rested"]
    place.point("champion", "2")
    assert [(look.outcome, look.ref) for look in desk.look()] == [("placed", "fraud:2")]
    place.point("champion", "1")
    assert [(look.outcome, look.ref) for look in desk.look()] == [("placed", "fraud:1")]
    moves = desk.registry.alias_history("fraud", "candidate")
    assert [(move.from_version, move.to_version) for move in moves] == [(None, 1), (1, 2), (2, 1)]
    assert (moves[1].by, moves[1].why) == ("ci", f"go ({CHAMPION} is version 2)")
    assert desk.registry.resolve("fraud:2").origin["metrics"] == {"auc": 0.7}
    desk.registry.verify_audit()


def test_an_alias_that_somebody_else_moved_is_left_alone(place: MlflowPlace, desk: Desk) -> None:
    for amount in (1, 2, 3):
        place.log_adder(amount)
        place.point("champion", str(amount))
        desk.look(alias="shadow")
    place.point("champion", "1")
    desk.look()
    desk.registry.set_alias("fraud", "candidate", 3, expect=1, actor="eve", why="mine")
    place.point("champion", "2")
    (look,) = desk.look()
    assert (look.outcome, look.ref) == ("conflict", "fraud:2")
    assert "points to version 3, not to version 1" in look.problem
    assert [look.outcome for look in desk.look()] == ["rested"]
    assert desk.registry.aliases("fraud")["candidate"] == 3
    desk.registry.set_alias("fraud", "candidate", 2, expect=3, actor="eve", why="agreed")
    assert [look.outcome for look in desk.look()] == ["placed"]
    place.point("champion", "3")
    assert [(look.outcome, look.ref) for look in desk.look()] == [("placed", "fraud:3")]
    desk.registry.verify_audit()


def test_a_refusal_is_told_once_and_keeps_none_of_the_others_out(
    place: MlflowPlace, desk: Desk, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    place.log(bad, "risky")
    place.log_adder(1)
    place.point("champion", "1", "risky")
    place.point("champion", "1")
    both = ("models:/risky@champion", CHAMPION)
    assert [look.outcome for look in desk.look(*both)] == ["refused", "placed"]
    before = len(desk.registry.audit_log())
    refused, _ = desk.look(*both)
    assert (refused.outcome, refused.problem.partition(":")[0]) == ("rested", UntrustedPickle.code)
    assert len(desk.registry.audit_log()) == before
    trusted = desk.look("models:/risky@champion", trust=frozenset({"sha256:" + "0" * 64}))
    assert [look.outcome for look in trusted] == ["refused"]
    place.log(bad, "risky")
    place.point("champion", "2", "risky")
    assert [look.outcome for look in desk.look(*both)] == ["refused", "rested"]
    assert len(desk.registry.followings.all()) == 2
    desk.registry.verify_audit()


@pytest.mark.slow
def test_what_cannot_be_fetched_now_is_tried_again(place: MlflowPlace, desk: Desk, tmp_path: Path) -> None:
    """The artifacts of one model are gone: that is a refusal. A server that does not answer is none."""
    place.log_adder(1)
    place.point("champion", "1")
    with place.client() as client:
        run = client.get_model_version("fraud", "1").run_id
        client.create_registered_model("far")
        client.create_model_version("far", "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/x", run_id=run)
    place.point("champion", "1", "far")
    with pytest.raises(MlflowUnavailable):
        desk.look("models:/far@champion", CHAMPION)
    assert desk.registry.aliases("fraud") == {"candidate": 1}
    assert [one.outcome for one in desk.registry.followings.all()] == ["begun", "placed"]


def test_two_followers_at_once_do_it_once(place: MlflowPlace, desk: Desk) -> None:
    place.log_adder(1)
    place.point("champion", "1")
    followings, registry = desk.registry.followings, desk.registry
    first = followings.begin(CHAMPION, "fraud", "candidate", actor="ci")
    assert [look.outcome for look in desk.look()] == ["placed"]
    assert not followings.place(first, "1", 1, actor="ci", why="late")
    assert not followings.record(first, first, actor="ci")
    assert followings.begin(CHAMPION, "fraud", "candidate", actor="ci").outcome == "placed"
    assert len(registry.alias_history("fraud", "candidate")) == 1
    registry.verify_audit()


def test_only_what_moves_is_followed() -> None:
    with pytest.raises(InvalidArgument, match="nothing to follow"):
        Wish(MlflowUri.parse("models:/fraud/1"), "candidate", "go", "ci")


# --- mirrored ------------------------------------------------------------------------------------------


@pytest.fixture
def mirrored(place: MlflowPlace, desk: Desk) -> Desk:
    """Three versions, whose aliases and tags MLflow is told of."""
    for amount in (1, 2, 3):
        place.log_adder(amount)
        desk.take(f"models:/fraud/{amount}")
    desk.registry.mirrors.turn_on("mlflow", "fraud", actor="ada")
    return desk


def move(desk: Desk, to: int | None, alias: str = "stable") -> None:
    found = desk.registry.aliases("fraud").get(alias)
    desk.registry.set_alias("fraud", alias, to, expect=found, actor="ada", why="go")


def test_aliases_and_tags_are_told(place: MlflowPlace, mirrored: Desk) -> None:
    move(mirrored, 1)
    mirrored.registry.set_tag("fraud", 1, "owner", "risk", actor="ada")
    assert mirrored.sync() == [("fraud@stable", "written"), ("fraud:1", "written"), ("fraud:1", "written")]
    digest = mirrored.registry.resolve("fraud:1").digest
    about = {"taxiway.version": "fraud:1", "taxiway.digest": digest}
    assert place.aliases() == {"stable": "1"}
    assert place.tags("1") == about | {"taxiway.alias": "stable", "taxiway.tag.owner": "risk"}
    move(mirrored, 2)
    mirrored.registry.delete_tag("fraud", 1, "owner", actor="ada")
    assert mirrored.sync()[0] == ("fraud@stable", "written")
    assert (place.aliases(), place.tags("1")) == ({"stable": "2"}, about)
    move(mirrored, None)
    mirrored.sync()
    assert (place.aliases(), "taxiway.alias" in place.tags("2")) == ({}, False)
    assert mirrored.sync() == []
    assert mirrored.registry.outbox.letters("mlflow", waiting=True) == []
    mirrored.registry.verify_audit()


def test_what_was_there_before_is_told_when_mirroring_begins(place: MlflowPlace, desk: Desk) -> None:
    place.log_adder(1)
    desk.take("models:/fraud/1", alias="stable")
    assert desk.registry.outbox.letters("mlflow") == []
    desk.registry.mirrors.turn_on("mlflow", "fraud", actor="ada")
    assert desk.sync() == [("fraud@stable", "written"), ("fraud:1", "written")]
    assert place.aliases() == {"stable": "1"}
    move(desk, None)
    desk.registry.mirrors.turn_off("mlflow", "fraud", actor="ada")
    assert desk.sync() == []
    assert place.aliases() == {"stable": "1"}


def test_an_alias_that_somebody_moved_in_mlflow_is_theirs(place: MlflowPlace, mirrored: Desk) -> None:
    move(mirrored, 1)
    mirrored.sync()
    place.point("stable", "3")
    move(mirrored, 2)
    assert mirrored.sync()[0] == ("fraud@stable", "conflict")
    assert place.aliases() == {"stable": "3"}
    (letter,) = [one for one in mirrored.registry.outbox.letters("mlflow") if one.problem]
    assert "points to version 3 in MLflow; we left it at version 1" in letter.problem
    assert mirrored.registry.audit_log()[-1].kind == "letter-refused"
    move(mirrored, 3)
    assert mirrored.sync()[0] == ("fraud@stable", "same")
    move(mirrored, 1)
    assert mirrored.sync()[0] == ("fraud@stable", "written")
    place.point("stable", None)
    move(mirrored, 2)
    assert mirrored.sync()[0] == ("fraud@stable", "conflict")
    assert place.aliases() == {}


@pytest.mark.slow
def test_a_taken_alias_is_not_overwritten_at_the_first_time(place: MlflowPlace, mirrored: Desk) -> None:
    place.point("stable", "2")
    move(mirrored, 1)
    assert mirrored.sync()[0] == ("fraud@stable", "conflict")
    assert place.aliases() == {"stable": "2"}


@pytest.mark.slow
def test_versions_from_elsewhere_are_none_of_mlflows_business(
    place: MlflowPlace, mirrored: Desk, tmp_path: Path
) -> None:
    own = mirrored.take(str(adder(tmp_path, 9)), name="fraud")
    assert own.version is not None
    move(mirrored, 1)
    mirrored.sync()
    move(mirrored, own.version.number)
    assert mirrored.sync()[0] == ("fraud@stable", "written")
    assert place.aliases() == {}


def test_mlflow_is_down_and_comes_back(place: MlflowPlace, mirrored: Desk, clock: ToldClock) -> None:
    move(mirrored, 1)
    move(mirrored, 2)
    mirrored.uri = "http://127.0.0.1:9"
    with pytest.raises(MlflowUnavailable):
        mirrored.sync()
    mirrored.uri = place.uri
    assert ("fraud@stable", "written") not in mirrored.sync(), "its first letter waits, so the second does"
    clock.advance(10)
    assert [told for told in mirrored.sync() if told[0] == "fraud@stable"] == [("fraud@stable", "written")] * 2
    assert place.aliases() == {"stable": "2"}


@pytest.mark.slow
def test_another_mlflow_is_told_nothing(mirrored: Desk, tmp_path: Path) -> None:
    other = MlflowPlace.new(tmp_path / "other")
    other.log_adder(1)
    move(mirrored, 1)
    mirrored.uri = other.uri
    assert mirrored.sync() == [("fraud@stable", "refused"), ("fraud:1", "refused")]
    assert (other.aliases(), other.tags("1")) == ({}, {})


# --- from the terminal ---------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(place: MlflowPlace, tmp_path: Path) -> Run:
    environ = {
        "TAXIWAY_REGISTRY__URL": f"sqlite:///{tmp_path}/registry.db",
        "TAXIWAY_REGISTRY__BLOBS": str(tmp_path / "blobs"),
        "TAXIWAY_REGISTRY__CACHE": str(tmp_path / "cache/models"),
        "TAXIWAY_REGISTRY__ACTOR": "eve",
        "MLFLOW_TRACKING_URI": place.uri,
    }

    def invoke(*words: str) -> tuple[int, str]:
        result = CliRunner(env=environ).invoke(taxiway, words, catch_exceptions=False)
        return result.exit_code, result.output

    return invoke


def test_the_verbs(place: MlflowPlace, run: Run) -> None:
    place.log_adder(1)
    place.point("champion", "1")
    code, said = run("import", CHAMPION, "--why", "go", "--dry-run")
    assert (code, said.startswith("fraud  not registered (dry run)")) == (0, True)
    follow = ("mlflow", "follow", CHAMPION, "--once", "--why", "go")
    assert run(*follow) == (0, f"{CHAMPION} is version 1: fraud@candidate now points to fraud:1\n")
    code, said = run("why", "fraud@candidate")
    assert "fraud:1 trained by mlflow:run/" in said
    assert run("mlflow", "mirror", "on", "fraud") == (0, "fraud is mirrored; `taxiway mlflow sync` delivers\n")
    told = "fraud@candidate -> MLflow: told\nfraud:1 -> MLflow: told\n"
    assert run("mlflow", "sync", "--once") == (0, told)
    assert place.aliases() == {"champion": "1", "candidate": "1"}
    place.log_adder(2)
    place.point("champion", "2")
    run("alias", "delete", "fraud@candidate", "--why", "mine")
    code, said = run(*follow)
    assert (code, "was moved by somebody else" in said) == (4, True)
    code, said = run("mlflow", "status")
    assert said.startswith(f"{CHAMPION} was version 2 (")
    assert "\nmirrored: fraud\n" in said
    assert json.loads(run("mlflow", "status", "--output", "json")[1])["mirrored"] == ["fraud"]
    assert run("mlflow", "mirror", "off", "fraud")[0] == 0
    assert run("mlflow", "follow", "models:/fraud/1", "--why", "go", "--every", "never")[0] == 2


def test_an_unreadable_model_ends_with_a_code(place: MlflowPlace, run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing here")
    place.log(empty)
    place.point("champion", "1")
    code, said = run("mlflow", "follow", CHAMPION, "--once", "--why", "go")
    assert (code, UnrecognisedModel.code in said) == (4, True)
