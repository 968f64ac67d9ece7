"""Files of every format, damaged: they are imported or refused with a reason, and nothing else happens."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import foreign_models
from tests.support.malicious import making
from tests.support.malicious.disguises import SCRIPT_OBJECT
from tests.support.onnx_models import doubler

from taxiway.core.errors import InvalidArgument
from taxiway.intake.walk import Office, Wanted, import_models

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "onnx": doubler,
    "skops": foreign_models.skops_file,
    "xgboost": lambda path: foreign_models.xgboost_file(path.with_suffix(".json")),
    "ubjson": lambda path: foreign_models.xgboost_file(path.with_suffix(".ubj")),
    "lightgbm": foreign_models.lightgbm_file,
    "catboost": foreign_models.catboost_file,
    "torch-export": foreign_models.export_archive,
    "torchscript": lambda path: making.write(path, making.torch_script(SCRIPT_OBJECT)),
    "torchserve": lambda path: making.write(path, making.mar([])),
    "gguf": lambda path: making.write(path, making.gguf()),
    "safetensors": lambda path: making.write(path, making.safetensors({"a": ("F32", [2], (0, 8))}, 8)),
}


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return BUILDERS[request.param](tmp_path_factory.mktemp("whole") / "model").read_bytes()


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_file_is_imported_or_refused(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        # Most of what can be believed wrongly stands at the beginning and at the end.
        near = st.integers(0, min(400, len(damaged) - 1))
        at = data.draw(near | near.map(lambda offset: len(damaged) - 1 - offset) | st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.just(len(damaged)) | st.integers(1, len(damaged)))
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "model")
        source.write_bytes(damaged[:end])
        with contextlib.suppress(InvalidArgument):
            import_models(Wanted(str(source)), Office(Path(directory, "work")), None)
