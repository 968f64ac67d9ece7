"""Real models of each framework, imported into a real registry from their bytes alone."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.support import foreign_models
from tests.support.malicious import making
from tests.support.malicious.disguises import SCRIPT_OBJECT
from tests.support.malicious.paths import external_model
from tests.support.onnx_models import doubler

from taxiway.config.model_config import parse_pbtxt
from taxiway.core.errors import (
    AlreadyRegistered,
    ArtifactChanged,
    InvalidArgument,
    NotFound,
    UnrecognisedModel,
    UnsafePath,
    UntrustedPickle,
)
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.intake.naming import model_name
from taxiway.intake.nouns import Staged, Understanding
from taxiway.intake.report import as_json, format_report
from taxiway.intake.sources import Brought, bring_path
from taxiway.intake.walk import Imported, Office, Wanted, import_models
from taxiway.registry.nouns import StoredFile
from taxiway.registry.registry import Registry


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "work")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(f"sqlite:///{tmp_path / 'registry.db'}", str(tmp_path / "blobs")) as opened:
        yield opened


def take(source: Path, office: Office, registry: Registry | None, **said: object) -> Imported:
    """Import the one model of a source."""
    wanted = Wanted(str(source), **{"actor": "tester", "why": "a test", **said})  # type: ignore[arg-type]
    (imported,) = import_models(wanted, office, registry)
    return imported


def sha256(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


# --- what is understood of each format -----------------------------------------------------------------

TABLE, TABLE_64 = ["X FP32[-1, 4]"], ["X FP64[-1, 4]"]
CLASSES = ["label INT64[-1]", "probabilities FP32[-1, 3]"]
CLASSES_64 = ["label INT64[-1]", "probabilities FP64[-1, 3]"]
CLASS = b"""
class P:
    inputs: dict = {"x": ("FP32", [-1, 4])}
    outputs = made_while_it_runs()
    def load(self, directory): ...
    def predict(self, x): ...
"""
FOUR, PAIR = "x FP32[-1, 4]", "output__0 FP32[-1, 2]"
FORMATS: dict[str, tuple[Callable[[Path], Path], str, list[str], list[str], str]] = {
    "model.onnx": (doubler, "onnxruntime", ["x FP32[-1, 2]"], ["y FP32[-1, 2]"], "@/model.onnx"),
    "model.skops": (foreign_models.skops_file, "sklearn", TABLE_64, CLASSES_64, "@/model.skops"),
    "model.json": (foreign_models.xgboost_file, "xgboost", TABLE, CLASSES, "@/xgboost.json"),
    "model.ubj": (foreign_models.xgboost_file, "xgboost", TABLE, CLASSES, "@/model.ubj"),
    "model.txt": (foreign_models.lightgbm_file, "lightgbm", TABLE_64, CLASSES_64, "@/model.txt"),
    "model.cbm": (foreign_models.catboost_file, "catboost", TABLE, CLASSES_64, "@/model.cbm"),
    "bert": (foreign_models.hugging_face_directory, "transformers", [], [], "@/model.safetensors"),
    "model.pt2": (foreign_models.export_archive, "pytorch", [FOUR], [PAIR], "@/model.pt2"),
    "model.pt": (
        lambda path: making.write(path, making.torch_script(SCRIPT_OBJECT)), "pytorch", [], [], "@/model.pt",
    ),
    "model.mar": (lambda path: making.write(path, making.mar([])), "torchserve", [], [], "@/model.mar"),
    "model.gguf": (lambda path: making.write(path, making.gguf()), "llama", [], [], "@/model.gguf"),
    "model.plan": (lambda path: making.write(path, b"ftrt" + bytes(100)), "tensorrt", [], [], "@/model.plan"),
    "model.safetensors": (
        lambda path: making.write(path, making.safetensors({"a": ("F32", [2], (0, 8))}, 8)),
        "", [], [], "@/model.safetensors",
    ),
    "predictor.py": (
        lambda path: making.write(path, CLASS),
        "class", [FOUR], [], "@/predictor.py",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models that were trained once are kept."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def built(kept: Path) -> Callable[[str, Path], Path]:
    """A copy of the model of this name in FORMATS."""

    def build(name: str, directory: Path) -> Path:
        if not (kept / name).exists():
            FORMATS[name][0](kept / name)
        if (kept / name).is_dir():
            return shutil.copytree(kept / name, directory / name)
        return Path(shutil.copy(kept / name, directory / name))

    return build


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_recognised_understood_and_registered(
    name: str, tmp_path: Path, office: Office, registry: Registry, built: Callable[[str, Path], Path]
) -> None:
    _, backend, inputs, outputs, file = FORMATS[name]
    imported = take(built(name, tmp_path), office, registry, name="model")
    assert [said(spec) for spec in imported.model.inputs] == inputs
    assert [said(spec) for spec in imported.model.outputs] == outputs
    version = registry.resolve("model:1")
    assert file in {entry.path for entry in version.manifest.files}
    repository = registry.materialise(["model:1"], tmp_path / "repository")
    config = parse_pbtxt((repository / "model" / "config.pbtxt").read_text(), "config.pbtxt")
    assert config.backend == backend
    told = inputs if backend == "onnxruntime" else []  # others tell their tensors when they are loaded
    assert [tensor.name for tensor in config.input] == [spec.partition(" ")[0] for spec in told]
    assert [tensor["name"] for tensor in version.signature["inputs"]] == [spec.partition(" ")[0] for spec in inputs]
    assert version.facts["scan"]["findings"] is not None
    report = format_report([imported])
    assert report.startswith("model:1  registered\n")
    assert version.digest in report
    json.dumps(as_json([imported]))


def said(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype.wire_name}{list(spec.shape)}"


@pytest.mark.parametrize("name", FORMATS)
def test_its_bytes_are_recognised_under_another_name(
    name: str, tmp_path: Path, office: Office, built: Callable[[str, Path], Path]
) -> None:
    renamed = built(name, tmp_path).rename(tmp_path / "something")
    imported = take(renamed, office, None)
    assert imported.model.backend == FORMATS[name][1]


def test_a_classifier_of_catboosts_with_several_labels_is_understood_as_it_is_served(
    tmp_path: Path, office: Office, registry: Registry
) -> None:
    _, classes = foreign_models.samples()
    several = np.stack([classes > 0, classes == 1], axis=1).astype(int)
    source = foreign_models.catboost_file(tmp_path / "model.cbm", several, "MultiLogloss")
    outputs = take(source, office, registry).model.outputs
    assert [said(spec) for spec in outputs] == ["label INT64[-1, 2]", "probabilities FP64[-1, 2]"]


def test_what_is_served_is_what_was_imported(tmp_path: Path, office: Office, registry: Registry) -> None:
    take(external_model(tmp_path, "weights.bin"), office, registry, name="adder")
    repository = registry.materialise(["adder:1"], tmp_path / "repository")
    session = onnxruntime.InferenceSession(str(repository / "adder" / "1" / "model.onnx"))
    rows = np.ones((2, 4), np.float32)
    (answer,) = session.run(None, {"x": rows})
    assert np.array_equal(answer, rows)


def test_a_triton_repository_gives_each_version_of_each_model(
    tmp_path: Path, office: Office, registry: Registry
) -> None:
    source = foreign_models.triton_repository(tmp_path / "models")
    imported = import_models(Wanted(str(source), actor="tester", why="a test"), office, registry)
    assert [one.version.ref for one in imported if one.version] == ["adder:1", "both:1", "double:1", "double:2"]
    assert [one.model.facts["triton_version"] for one in imported] == [1, 1, 1, 3]
    adder, both, _, second = imported
    assert adder.config == (source / "adder" / "config.pbtxt").read_text()
    assert [said(spec) for spec in adder.model.outputs] == ["B BYTES[-1, 1]"]
    assert both.model.facts["steps"] == ["double"]
    assert [said(spec) for spec in second.model.inputs] == ["x FP32[-1, 3]"]
    repository = registry.materialise(["both:1", "double:2"], tmp_path / "repository")
    assert (repository / "both" / "1").is_dir()

    doubler(source / "double" / "4" / "model.onnx", width=5)
    again = import_models(Wanted(str(source), actor="tester", why="a test"), office, registry)
    assert [(one.version.ref, one.is_new) for one in again if one.version] == [
        ("adder:1", False), ("both:1", False), ("double:1", False), ("double:2", False), ("double:3", True),
    ]  # fmt: skip
    assert "adder:1  was registered before" in format_report(again)


def test_one_model_of_a_triton_repository_can_be_renamed(tmp_path: Path, office: Office, registry: Registry) -> None:
    source = foreign_models.triton_repository(tmp_path / "models")
    imported = take(source / "adder", office, registry, name="sum")
    assert parse_pbtxt(imported.config, "").name == ""
    with pytest.raises(InvalidArgument, match="cannot all be called 'sum'"):
        import_models(Wanted(str(source), name="sum", why="x", actor="x"), office, registry)


# --- trust ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [foreign_models.pickle_file, foreign_models.joblib_file])
def test_a_pickle_passes_by_the_digest_of_its_very_bytes(
    build: Callable[[Path], Path], tmp_path: Path, office: Office, registry: Registry
) -> None:
    source = build(tmp_path / "model.bin")
    with pytest.raises(UntrustedPickle) as refused:
        take(source, office, registry)
    assert f"--trust {sha256(source)}" in refused.value.hint
    assert "sklearn.pipeline.Pipeline" in refused.value.facts["globals"]
    with pytest.raises(UntrustedPickle):
        take(source, office, registry, trust=frozenset({f"sha256:{'0' * 64}"}))
    imported = take(source, office, registry, trust=frozenset({sha256(source)}))
    assert imported.model.backend == "sklearn"
    assert imported.version is not None
    assert imported.version.facts["scan"]["trusted"] == [sha256(source)]
    assert [said(spec) for spec in imported.model.inputs] == TABLE_64


# --- the source ----------------------------------------------------------------------------------------


def test_a_source_that_changes_after_the_look_changes_nothing(tmp_path: Path, registry: Registry) -> None:
    """The scan, the understanding and the registry see one private copy."""
    source = doubler(tmp_path / "model.onnx")
    before = sha256(source)

    def swap(model: Understanding, staged: Staged, trusted: frozenset[str]) -> Understanding:
        source.write_bytes(b"something else")
        return model

    office = Office(tmp_path / "work", converters={"onnxruntime": swap})
    imported = take(source, office, registry)
    assert {f"sha256:{entry.sha256}" for entry in imported.files} >= {before}


def test_bytes_that_change_in_the_private_copy_are_refused(tmp_path: Path, office: Office, registry: Registry) -> None:
    class Meddling:
        """A registry that keeps other bytes than it was given."""

        def put_file(self, path: Path) -> StoredFile:
            path.write_bytes(b"something else")
            return registry.put_file(path)

        put_bytes = registry.put_bytes
        register = registry.register
        resolve = registry.resolve
        add_lineage = registry.add_lineage
        set_alias = registry.set_alias

    with pytest.raises(ArtifactChanged) as refused:
        import_models(Wanted(str(doubler(tmp_path / "m.onnx")), why="x", actor="x"), office, Meddling())
    assert refused.value.facts["file"] == "@/model.onnx"
    assert registry.models() == []


def test_links_inside_a_model_are_copied_and_hugging_faces_cache_is_known(tmp_path: Path, office: Office) -> None:
    snapshot = tmp_path / "models--acme--bert" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    foreign_models.hugging_face_directory(snapshot)
    blobs = tmp_path / "models--acme--bert" / "blobs"
    blobs.mkdir()
    (snapshot / "vocab.txt").rename(blobs / "123")
    (snapshot / "vocab.txt").symlink_to("../../blobs/123")
    assert "@/vocab.txt" in {entry.path for entry in take(snapshot, office, None).files}
    (snapshot / "vocab.txt").unlink()
    (snapshot / "vocab.txt").symlink_to("../../../secret")
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(UnsafePath, match="leads out"):
        take(snapshot, office, None)


def test_what_version_control_leaves_beside_a_model_is_left_out(tmp_path: Path, office: Office) -> None:
    source = foreign_models.hugging_face_directory(tmp_path / "bert")
    (source / ".git").mkdir()
    (source / ".git" / "index").write_bytes(bytes(range(200, 256)))
    (source / "__pycache__").mkdir()
    imported = take(source, office, None)
    assert imported.left_out == (".git", "__pycache__")
    paths = {entry.path for entry in imported.files}
    assert paths == {f"@/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt")} | {
        "config.pbtxt"
    }


def test_what_a_model_is_not_made_of_is_told(tmp_path: Path, office: Office) -> None:
    doubler(tmp_path / "double" / "double.onnx")
    (tmp_path / "double" / "README.md").write_text("# Doubles")
    imported = take(tmp_path / "double", office, None)
    assert imported.left_out == ("README.md",)
    assert "left out   README.md" in format_report([imported])


def test_nothing_at_the_path(tmp_path: Path, office: Office) -> None:
    with pytest.raises(NotFound):
        take(tmp_path / "gone", office, None)


def test_nothing_known_at_the_path(tmp_path: Path, office: Office) -> None:
    (tmp_path / "notes.md").write_text("# notes")
    with pytest.raises(UnrecognisedModel, match=r"notes\.md") as refused:
        take(tmp_path / "notes.md", office, None)
    assert "XGBoost" in refused.value.hint


def test_several_models_in_a_directory_are_named(tmp_path: Path, office: Office) -> None:
    (tmp_path / "many").mkdir()
    for name in ("one.onnx", "two.onnx"):
        doubler(tmp_path / "many" / name)
    with pytest.raises(UnrecognisedModel, match=r"holds some: one\.onnx \(ONNX\), two\.onnx \(ONNX\)"):
        take(tmp_path / "many", office, None)


def test_a_source_that_the_copies_would_lie_in_is_refused(tmp_path: Path) -> None:
    doubler(tmp_path / "model.onnx")
    with pytest.raises(InvalidArgument, match="where models are copied to"):
        take(tmp_path, Office(tmp_path / "cache" / "imports"), None)


@pytest.mark.parametrize("said", [{"name": "fraud:2"}, {"name": "a/b"}, {"alias": "st able"}])
def test_what_can_be_no_name_is_refused_before_anything_is_read(said: dict[str, str], office: Office) -> None:
    with pytest.raises(InvalidArgument, match=f"--{next(iter(said))} .* is not a name"):
        take(Path("nowhere"), office, None, **said)


def test_two_formats_at_once(tmp_path: Path, office: Office) -> None:
    source = foreign_models.hugging_face_directory(tmp_path / "both")
    (source / "MLmodel").write_text("flavors:\n  python_function: {loader_module: x}\n")
    with pytest.raises(UnrecognisedModel, match="at once"):
        take(source, office, None)


def test_another_room_brings_the_models_of_a_uri(tmp_path: Path) -> None:
    model = doubler(tmp_path / "model.onnx")

    class Bringing:
        def __enter__(self) -> Brought:
            return Brought(model, {"source": "models:/fraud@champion", "kind": "mlflow"}, name="fraud")

        def __exit__(self, *error: object) -> None:
            bring_path(".")

    office = Office(tmp_path / "work", schemes={"models": lambda source: Bringing()})
    imported = take(Path("models:/fraud@champion"), office, None)
    assert (imported.name, imported.origin["source"]) == ("fraud", "models:/fraud@champion")
    with pytest.raises(InvalidArgument, match="nothing brings"):
        take(Path("runs:/1/model"), office, None)


# --- the registry --------------------------------------------------------------------------------------


def test_the_same_files_are_one_version(tmp_path: Path, office: Office, registry: Registry) -> None:
    source = doubler(tmp_path / "model.onnx")
    take(source, office, registry, alias="champion")
    with pytest.raises(AlreadyRegistered):
        take(source, office, registry)
    assert registry.aliases("model") == {"champion": 1}
    assert [entry.actor for entry in registry.audit_log()] == ["tester", "tester"]


def test_a_dry_run_registers_nothing(tmp_path: Path, office: Office, registry: Registry) -> None:
    imported = take(doubler(tmp_path / "model.onnx"), office, None)
    assert imported.version is None
    assert "not registered (dry run)" in format_report([imported])
    assert registry.models() == []


def test_what_the_bytes_do_not_tell_can_be_said(tmp_path: Path, office: Office, registry: Registry) -> None:
    source = making.write(tmp_path / "model.mar", making.mar([]))
    imported = take(source, office, registry, inputs=(TensorSpec("data", Datatype.BYTES, (-1, 1)),))
    assert parse_pbtxt(imported.config, "").input[0].name == "data"
    assert imported.name == "m"


@pytest.mark.parametrize(
    ("text", "name"), [("model", "model"), ("my model (v2)", "my-model-v2"), ("...", "model"), ("ünïcode", "n-code")]
)
def test_a_name_out_of_a_files_name(text: str, name: str) -> None:
    assert model_name(text) == name
