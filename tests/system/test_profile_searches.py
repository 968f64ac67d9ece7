"""The searches against a server that really runs: that they end, and what they write can be served."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.support.onnx_models import doubler

from taxiway.core.errors import TargetUnavailable
from taxiway.profile.arrivals import Constant
from taxiway.profile.config_search import Grid
from taxiway.profile.plan import Plan
from taxiway.profile.tuning import BATCH, INSTANCES, THREADS, settings_fragment, tune
from taxiway.profile.wishes import Wishes


def profile(model: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "taxiway", "profile", str(model), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)


@pytest.mark.timeout(240)
def test_a_rate_is_found_and_told_in_every_form(tmp_path: Path) -> None:
    words = ["--search", "--slo", "p99<200ms", "--rate", "100", "--duration", "400ms", "--warm-up", "100ms"]
    done = profile(doubler(tmp_path / "m.onnx"), tmp_path, *words, "--json", "found.json", "--html", "found.html")
    assert done.returncode == 0, done.stderr
    assert "within the SLO" in done.stdout or "keeps the SLO" in done.stdout
    told = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert told["rate_per_s"] >= 50
    assert told["slo"]["latency_ms"] == 200
    assert {"rate_per_s", "kept", "share"} <= set(told["rates"][0])
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "<polyline" in page
    assert f"{told['rates'][0]['rate_per_s']:.4g}" in page


@pytest.mark.timeout(240)
def test_where_no_rate_keeps_it_the_rates_are_told_all_the_same(tmp_path: Path) -> None:
    words = ["--search", "--slo", "p99<0.001ms", "--rate", "100", "--duration", "400ms", "--warm-up", "100ms"]
    done = profile(doubler(tmp_path / "m.onnx"), tmp_path, *words, "--output", "json")
    assert (done.returncode, "keeps the SLO" in done.stderr) == (6, True), done.stderr
    told = json.loads(done.stdout)
    assert told["rate_per_s"] is None
    assert not any(one["kept"] for one in told["rates"])


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


def test_a_configuration_that_does_not_start_ends_nothing(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    plan = Plan(Constant(), 1.0, 0.2, warm_up_s=0.1, concurrency=4)
    grid = Grid({BATCH: (1, 4), THREADS: (-5, 1)})
    tuned = asyncio.run(tune(str(model), plan, grid=grid, share=1.0))
    assert tuned.config[THREADS] == 1
    assert tuned.before.score > 1
    assert tuned.failed[0].startswith("max_batch_size 1, intra_op_threads -5: error: ")
    assert all("intra_op_threads -5" in one for one in tuned.failed)


def test_where_no_configuration_starts_the_reason_is_told(tmp_path: Path) -> None:
    model = doubler(tmp_path / "doubler.onnx")
    plan = Plan(Constant(), 1.0, 0.2, warm_up_s=0.1, concurrency=4)
    wishes = Wishes(serve_flags=("--no-such-flag",))
    with pytest.raises(TargetUnavailable, match=r"none of 2 configurations could be measured(.|\n)*no-such-flag"):
        asyncio.run(tune(str(model), plan, wishes, grid=Grid({BATCH: (1, 4)}), share=1.0))


def test_nothing_is_written_over_the_configuration_of_a_model(tmp_path: Path) -> None:
    own = tmp_path / "config.pbtxt"
    own.write_text("max_batch_size: 3\n", encoding="utf-8")
    done = profile(doubler(tmp_path / "m.onnx"), tmp_path, "--tune", "config.yaml", "--concurrency", "4")
    assert (done.returncode, "config.pbtxt is there already" in done.stderr) == (4, True), done.stderr
    assert own.read_text(encoding="utf-8") == "max_batch_size: 3\n"
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--search"], "--search needs an --slo"),
        (["--tune", "t.yaml"], "--tune needs --concurrency"),
        (["--tune", "out/t.yaml", "--concurrency", "4"], "'out/t.yaml' cannot be written"),
        (["--tune", "t.pbtxt", "--concurrency", "4"], "name a .yaml"),
        (["--search", "--slo", "p99<5ms", "--concurrency", "4"], "a closed loop has no rate to search"),
    ],
)
def test_searches_that_cannot_be_are_refused(tmp_path: Path, words: list[str], said: str) -> None:
    done = profile(doubler(tmp_path / "doubler.onnx"), tmp_path, *words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
