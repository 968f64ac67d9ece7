"""`taxiway import` as a person runs it: what it prints, how it ends, and that what it took in is served."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.foreign_models import pickle_file
from tests.support.malicious.pickles import os_system
from tests.support.onnx_models import doubler

from taxiway.cli.import_ import command


def taxiway(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command with a registry of its own."""
    environment = os.environ | {"XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
    line = [sys.executable, "-W", "error", "-m", "taxiway", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_model_is_imported_and_listed(tmp_path: Path) -> None:
    source = doubler(tmp_path / "double.onnx")
    done = taxiway(tmp_path, "import", str(source), "--alias", "stable", "--why", "the first", "--output", "json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)
    assert (told["ref"], told["backend"]) == ("double:1", "onnxruntime")
    shown = taxiway(tmp_path, "show", "double@stable", "--output", "json")
    assert json.loads(shown.stdout)["digest"] == told["digest"]


def test_a_pickle_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "model.pkl").write_bytes(os_system(canary))
    done = taxiway(tmp_path, "import", str(tmp_path / "model.pkl"), "--why", "x")
    assert done.returncode == 2
    assert "It imports posix.system." in done.stderr
    assert "hint: export the model to ONNX" in done.stderr
    assert not canary.exists()
    assert list((tmp_path / "cache" / "taxiway" / "imports").iterdir()) == []


def test_a_pickle_passes_by_its_digest(tmp_path: Path) -> None:
    source = pickle_file(tmp_path / "model.pkl")
    digest = f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
    done = taxiway(tmp_path, "import", str(source), "--dry-run", "--trust", digest)
    assert done.returncode == 0, done.stderr
    assert "is a pickle, and is trusted" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trust", "sha256:12"], "64 hexadecimal digits"),
        (["--input", "x:FLOAT[2]"], "x:FP32[-1,4]"),
        ([], "Missing option '--why'"),
        (["--native", "--samples", __file__, "--why", "x"], "leave one out"),
    ],
)
def test_a_word_that_is_wrong_is_explained(words: list[str], said: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["model.onnx", *words], env={"XDG_CACHE_HOME": str(tmp_path)})
    assert (done.exit_code, said in done.output) == (2, True)
