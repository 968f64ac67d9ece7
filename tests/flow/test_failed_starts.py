"""A data plane that cannot start leaves nothing behind, and takes nothing from the one that is there."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tests.flow.serving import QUICK, serve
from tests.support import onnx_models
from tests.support.keys import write_keys

from taxiway.config.loader import load_settings
from taxiway.core.errors import FailedPrecondition, InvalidModel, TaxiwayError
from taxiway.server.app import DataPlane


async def _fail_to_start(path: Path, **flags: object) -> tuple[TaxiwayError, set[str]]:
    """Why it did not start, and the coroutines that go on all the same."""
    named = {name.replace("__", "."): value for name, value in flags.items()}
    plane = DataPlane(load_settings(None, {}, {**QUICK, "models.paths": [str(path)], **named}))
    with pytest.raises(TaxiwayError) as caught:
        await plane.start()
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return caught.value, {task.get_coro().__qualname__ for task in others}  # type: ignore[union-attr]


def test_nothing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    keys = write_keys(tmp_path / "keys.yaml", caller="infer")
    error, left = asyncio.run(_fail_to_start(path, auth__keys_file=str(keys), grpc__enabled=False))
    assert isinstance(error, InvalidModel)
    assert left == set()


RAISES = """
class Raises:
    inputs = outputs = {"x": ("FP32", [-1, 1])}

    def load(self, directory):
        raise RuntimeError("no weights")
"""


@pytest.mark.parametrize("names", [["first"], ["first", "second"]])
def test_each_model_is_named_that_its_own_code_keeps_from_being_served(names: list[str], tmp_path: Path) -> None:
    for name in names:
        file = tmp_path / name / "1" / "predictor.py"
        file.parent.mkdir(parents=True)
        file.write_text(RAISES + "    def predict(self, x):\n        return x\n", encoding="utf-8")
    error, _ = asyncio.run(_fail_to_start(tmp_path, grpc__enabled=False))
    assert [f"model '{name}': the model's own code raised RuntimeError" in error.message for name in names] == [
        True for _ in names
    ]
    assert "no weights" in error.message


def test_the_socket_of_the_one_that_is_there_stays(tmp_path: Path) -> None:
    model = onnx_models.doubler(tmp_path / "double.onnx")
    path = tmp_path / "grpc.sock"
    with serve(model, grpc__enabled=True, grpc__unix_socket=str(path)):
        error, _ = asyncio.run(_fail_to_start(model, grpc__enabled=True, grpc__unix_socket=str(path)))
        assert isinstance(error, FailedPrecondition)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
