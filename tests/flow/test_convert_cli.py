"""`taxiway convert`: what it prints, and how each refusal is told."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import joblib
import numpy as np
import onnxruntime
import pytest
import skops.io
from click.testing import CliRunner
from sklearn.tree import DecisionTreeRegressor
from tests.support import framework_models as models
from tests.support.malicious import CASES, Case
from tests.support.malicious.exported import program, script

from taxiway.cli.convert import command
from taxiway.core.errors import InvalidArgument, InvalidModel, NotFound, TaxiwayError, Unsupported, UntrustedPickle

OF_TORCH = [case for case in CASES if case.name.startswith(("exported-", "torchscript-"))]


def asked(*words: str) -> str:
    """What it prints."""
    return CliRunner().invoke(command, words, catch_exceptions=False).output


def test_a_model_becomes_onnx_and_says_how_it_was_proven(tmp_path: Path) -> None:
    source, target = tmp_path / "wine.skops", tmp_path / "wine.onnx"
    skops.io.dump(models.forest("wine"), source)
    np.savez(tmp_path / "rows.npz", X=models.table("wine")[0][:20])
    lines = asked(str(source), "-o", str(target), "--samples", str(tmp_path / "rows.npz")).splitlines()
    assert "from scikit-learn by skl2onnx" in lines[0]
    assert "in    X FP32[-1, 13]" in lines
    assert any(line.startswith("proven on 20 rows with FP32 inputs: labels equal") for line in lines)
    assert onnxruntime.InferenceSession(target).get_outputs()[0].name == "label"


def test_a_program_gets_json(tmp_path: Path) -> None:
    skops.io.dump(models.forest("wine"), tmp_path / "wine.skops")
    told = json.loads(asked(str(tmp_path / "wine.skops"), "-o", str(tmp_path / "wine.onnx"), "--output", "json"))
    assert told["parity"]["labels_wrong"] == 0
    assert told["target"] == str(tmp_path / "wine.onnx")


def test_a_failed_proof_shows_the_worst_row(tmp_path: Path) -> None:
    rows = np.arange(64.0).reshape(-1, 1)
    tree = DecisionTreeRegressor(random_state=0).fit(rows, np.where(rows[:, 0] % 2, 1e300, -1e300))
    skops.io.dump(tree, tmp_path / "tree.skops")
    with pytest.raises(Unsupported, match=r"parity-failed(.|\n)*the worst row with FP32(.|\n)*X = \[") as caught:
        asked(str(tmp_path / "tree.skops"), "-o", str(tmp_path / "tree.onnx"))
    assert "native library" in caught.value.hint
    assert not (tmp_path / "tree.onnx").exists()


def test_a_pickle_needs_to_be_trusted(tmp_path: Path) -> None:
    source = tmp_path / "wine.joblib"
    joblib.dump(models.forest("wine"), source)
    with pytest.raises(UntrustedPickle) as caught:
        asked(str(source), "-o", str(tmp_path / "wine.onnx"))
    digest = caught.value.hint.rpartition(" ")[2]
    assert "labels equal" in asked(str(source), "-o", str(tmp_path / "wine.onnx"), "--trust", digest)


@pytest.mark.parametrize("source", ["nets.py:build", "model.pt2", "model.keras", "directory"])
def test_without_torch_the_error_says_what_to_install(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    program(tmp_path)
    for name in ("nets.py", "model.keras"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(Unsupported, match=r"needs (torch|keras), which .*python.* does not have") as caught:
        asked(source)
    assert "--python PATH" in caught.value.hint
    assert "onnxscript" in caught.value.hint


@pytest.mark.parametrize("case", OF_TORCH, ids=lambda case: case.name)
def test_a_program_of_torch_is_scanned_before_torch_reads_it(case: Case, tmp_path: Path) -> None:
    canary, place = tmp_path / "canary", tmp_path / "model"
    place.mkdir()
    source = case.build(place, canary)
    with pytest.raises(case.error) as refused:
        asked(str(source), "-o", str(place / "model.onnx"))
    assert refused.value.facts["rule"] == case.rule
    assert not canary.exists()
    assert list(place.iterdir()) == [source]


@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.pth"])
def test_a_pickle_in_a_program_of_torch_needs_to_be_trusted(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("m/archive_format" if name == "model.pt2" else "m/constants.pkl", b"pt2")
        archive.writestr("m/data/constants/opaque_0", pickle.dumps(print))
    with pytest.raises(UntrustedPickle, match="is a pickle: to read it is to run it") as caught:
        asked(str(tmp_path / name), "-o", str(tmp_path / "model.onnx"))
    digest = caught.value.hint.rpartition(" ")[2]
    with pytest.raises(Unsupported, match="needs torch"):
        asked(str(tmp_path / name), "-o", str(tmp_path / "model.onnx"), "--trust", digest)


def test_a_program_of_torch_is_read_as_what_it_was_scanned_as(tmp_path: Path) -> None:
    for wrong, source in (("a.pt2", script(tmp_path, "pass")), ("b.pt", program(tmp_path))):
        source.rename(tmp_path / wrong)
        with pytest.raises(InvalidModel, match=rf"{wrong} is no .*, by its bytes"):
            asked(str(tmp_path / wrong), "-o", str(tmp_path / "model.onnx"))


def test_a_link_is_read_as_what_it_is_called(tmp_path: Path) -> None:
    program(tmp_path).rename(tmp_path / "blob")
    (tmp_path / "model.pt2").symlink_to("blob")
    with pytest.raises(Unsupported, match="needs torch"):
        asked(str(tmp_path / "model.pt2"), "-o", str(tmp_path / "model.onnx"))


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    for name in ("none.skops", "none.pt2"):
        with pytest.raises(NotFound, match="source: there is no file"):
            asked(str(tmp_path / name), "-o", str(tmp_path / "model.onnx"))


@pytest.mark.parametrize("name", ["wine.skops", "model.pt2"])
def test_a_target_where_there_is_no_directory_is_not_found(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(NotFound, match=r"target: there is no directory .*missing for .*model\.onnx") as caught:
        asked(str(tmp_path / name), "-o", str(tmp_path / "missing" / "model.onnx"))
    assert caught.value.hint == f"mkdir -p {tmp_path / 'missing'}"


def test_samples_that_do_not_fit_are_told(tmp_path: Path) -> None:
    skops.io.dump(models.forest("wine"), tmp_path / "wine.skops")
    np.save(tmp_path / "rows.npy", np.zeros((2, 3)))
    with pytest.raises(InvalidArgument, match=r"rows of shape \(3,\) for 'X', not \(13,\)"):
        asked(str(tmp_path / "wine.skops"), "--samples", str(tmp_path / "rows.npy"), "-o", str(tmp_path / "o.onnx"))


def test_a_file_that_is_no_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(TaxiwayError, match="is a pickle"):
        asked(str(tmp_path / "model.pkl"))
