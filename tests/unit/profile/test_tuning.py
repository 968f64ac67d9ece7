"""What a tuned configuration is written as: flags, settings and config.pbtxt, each as its own reader takes it."""

from __future__ import annotations

import pytest
import yaml
from google.protobuf import text_format

from taxiway.config.loader import load_settings
from taxiway.profile.config_search import Best, Config, Measured
from taxiway.profile.search_report import tuned_lines
from taxiway.profile.tuning import (
    BATCH,
    DELAY,
    INSTANCES,
    THREADS,
    Tuned,
    default_grid,
    pbtxt_fragment,
    serve_flags,
    settings_fragment,
)

MANY: Config = {BATCH: 8, DELAY: 0.5, INSTANCES: 2, THREADS: 1}
ONE: Config = {BATCH: 1, DELAY: 0.0, INSTANCES: 1, THREADS: 4}


def flags_of(config: Config) -> dict[str, object]:
    words = list(serve_flags(config))
    found: dict[str, object] = {}
    while words:
        path = words.pop(0).removeprefix("--")
        if path.startswith("no-"):
            found[path.removeprefix("no-")] = False
        else:
            found[path.replace("-", "_")] = words.pop(0)
    return found


@pytest.mark.parametrize("config", [MANY, ONE])
def test_flags_and_settings_say_the_same(config: Config) -> None:
    by_flags = load_settings(None, {}, flags_of(config))
    written = yaml.safe_load(yaml.safe_dump(settings_fragment(config)))
    by_file = load_settings(
        None, {}, {f"{part}.{name}": value for part, own in written.items() for name, value in own.items()}
    )
    assert by_flags == by_file
    assert by_file.execution.instances == config[INSTANCES]
    assert by_file.batching.enabled == (config[BATCH] > 1)


def test_the_fragment_of_config_pbtxt_is_triton_s() -> None:
    text = pbtxt_fragment(MANY)
    assert text == (
        "max_batch_size: 8\n"
        "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 500 }\n"
        "instance_group [ { count: 2 kind: KIND_CPU } ]\n"
    )
    from tritonclient.grpc import model_config_pb2

    read = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert read.dynamic_batching.max_queue_delay_microseconds == 500
    assert read.instance_group[0].count == 2
    assert "dynamic_batching" not in pbtxt_fragment(ONE)


@pytest.mark.parametrize(("cpus", "counts"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4)), (8, (1, 2, 4, 8))])
def test_the_grid_fits_the_machine(cpus: int, counts: tuple[int, ...]) -> None:
    assert default_grid(cpus).axes[INSTANCES] == counts
    assert default_grid(cpus, 8).axes[BATCH] == (1, 2, 4, 8)


def test_what_is_told_marks_the_best() -> None:
    runs = ((ONE, Measured(100, 0.5)), (MANY, Measured(150, 0.9)))
    lines = tuned_lines(Tuned(Best(MANY, 150.0, runs), runs[0][1]))
    assert "*max_batch_size 8" in lines[2]
    assert lines[-1].endswith("150.0/s, 1.50 times the first")
