"""Followers of a real MLflow that are killed at any moment, or told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.mlflow_forks import prepare
from tests.support.mlflow_places import MlflowPlace
from tests.support.registry_forks import forker

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("mlflow") / "prepared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        patch.setenv("MLFLOW_REGISTRY_URI", "")
        prepare(folder)
        yield folder


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with forker("tests.support.mlflow_forks") as asked:
        yield asked


@pytest.fixture
def new_folder(prepared: Path, tmp_path: Path) -> Callable[[], Path]:
    """As prepared, each time."""
    numbers = iter(range(10_000))
    return lambda: Path(shutil.copytree(prepared, tmp_path / str(next(numbers))))


def assert_finished(ask: Ask, folder: Path) -> dict[str, Any]:
    """Nothing is lost, and nothing is there twice."""
    code, found = ask("finish", str(folder))
    assert code == 0
    assert found["theirs"] == {"champion": "2", "candidate": "2"}
    assert (found["ours"], found["moves"], found["versions"]) == ({"candidate": 2}, [1, 2], ["2", "1"])
    assert [tags["taxiway.version"] for tags in found["tags"]] == ["fraud:1", "fraud:2"]
    assert [tags.get("taxiway.alias") for tags in found["tags"]] == [None, "candidate"]
    assert found["lineage"] == ["artifact", "trained-by"]
    assert (found["problems"], found["waiting"]) == ([], 0)
    return dict(found)


def test_a_follower_killed_between_delivery_and_acknowledgement(ask: Ask, new_folder: Callable[[], Path]) -> None:
    folder = new_folder()
    assert ask("die delivered", str(folder))[0] == -signal.SIGKILL
    found = assert_finished(ask, folder)
    assert found["before"]["candidate"] == "2" or ["fraud:2", "same"] in found["told"]
    assert "same" in [outcome for _, outcome in found["told"]]


def die_at(ask: Ask, folder: Path, point: int) -> None:
    code, _ = ask("die", str(folder), point)
    assert code == -signal.SIGKILL, point
    assert_finished(ask, folder)


@pytest.mark.slow
def test_a_follower_killed_at_some_points_loses_nothing(ask: Ask, new_folder: Callable[[], Path]) -> None:
    code, count = ask("points", str(new_folder()))
    assert code == 0
    for point in (count // 3, 2 * count // 3):
        die_at(ask, new_folder(), point)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_follower_killed_at_every_point_loses_nothing(ask: Ask, new_folder: Callable[[], Path]) -> None:
    code, count = ask("points", str(new_folder()))
    assert (code, count > 100) == (0, True)
    for point in range(1, count):
        folder = new_folder()
        die_at(ask, folder, point)
        shutil.rmtree(folder)


@pytest.mark.slow
def test_a_follower_goes_on_until_it_is_told_to_stop(prepared: Path, tmp_path: Path) -> None:
    place = MlflowPlace(shutil.copytree(prepared, tmp_path / "copy"))
    environ = os.environ | {
        "TAXIWAY_REGISTRY__URL": f"sqlite:///{place.folder}/registry.db",
        "TAXIWAY_REGISTRY__BLOBS": str(place.folder / "blobs"),
        "TAXIWAY_REGISTRY__CACHE": str(tmp_path / "cache/models"),
        "MLFLOW_TRACKING_URI": place.uri,
        "MLFLOW_REGISTRY_URI": place.uri,  # the helpers leave that of another one behind
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    words = ["mlflow", "follow", "models:/fraud@champion", "--every", "200ms", "--why", "go"]
    command = [sys.executable, "-m", "taxiway", *words]
    process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        first = process.stdout.readline().strip()
        place.point("champion", "1")
        second = next(line.strip() for line in process.stdout if "champion is version 1" in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert first == "models:/fraud@champion is version 2: fraud@candidate now points to fraud:2"
    assert second == "models:/fraud@champion is version 1: fraud@candidate now points to fraud:1"
