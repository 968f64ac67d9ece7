"""The searches against a server that really runs: that they end, and what they write can be served."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.onnx_models import doubler

from taxiway.profile.arrivals import Constant
from taxiway.profile.config_search import Grid
from taxiway.profile.plan import Plan
from taxiway.profile.searching import search_lines, search_slo
from taxiway.profile.slos import Slo
from taxiway.profile.targets.served import ServedTarget
from taxiway.profile.tuning import BATCH, INSTANCES, settings_fragment, tune
from taxiway.profile.wishes import Wishes


async def search(model: Path) -> list[str]:
    target = ServedTarget(str(model), Wishes())
    slo = Slo(latency_ms=200.0)
    try:
        await target.open()
        found = await search_slo(Plan(Constant(), 100.0, 0.4, warm_up_s=0.1), slo, target)
        assert found.found.rate_per_s is not None
        assert found.found.rate_per_s >= 50
        return search_lines(slo, found)
    finally:
        await target.close()


@pytest.mark.timeout(240)
def test_a_rate_is_found_and_told(tmp_path: Path) -> None:
    lines = asyncio.run(search(doubler(tmp_path / "doubler.onnx")))
    assert any("within the SLO" in line or "keeps the SLO" in line for line in lines)


def test_a_configuration_is_found_and_its_settings_serve(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    plan = Plan(Constant(), 1.0, 0.2, warm_up_s=0.1, concurrency=4)
    grid = Grid({BATCH: (1, 4), INSTANCES: (1, 2)})
    tuned = asyncio.run(tune(str(model), plan, grid=grid, share=1.0))
    assert tuned.config in grid.configs()
    settings = tmp_path / "tuned.yaml"
    settings.write_text(yaml.safe_dump(settings_fragment(tuned.config)), encoding="utf-8")
    command = [sys.executable, "-m", "taxiway", "config", "explain", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tuned.yaml" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search"], "--search needs an --slo"),
        (["--tune", "t.yaml"], "--tune needs --concurrency"),
        (["--search", "--slo", "p99<5ms", "--concurrency", "4"], "a closed loop has no rate to search"),
    ],
)
def test_searches_that_cannot_be_are_refused(tmp_path: Path, words: list[str], said: str) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    command = [sys.executable, "-m", "taxiway", "profile", str(model), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
