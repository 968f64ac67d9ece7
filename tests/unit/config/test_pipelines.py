"""Pipelines of the settings: checked as settings, and then the ensembles that they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.config.test_ensembles import A, B, model

from taxiway.config.ensemble_spec import Need
from taxiway.config.ensembles import complete_ensemble
from taxiway.config.loader import load_settings
from taxiway.config.pipelines import map_by_name, pipeline_config
from taxiway.config.settings import PipelineSettings
from taxiway.core.errors import InvalidConfig

NEXT = model("next", {"y": (2,)}, {"z": (2,)}, optional=())


def complete(*peers: Any, **pipeline: Any) -> Any:
    message = pipeline_config("p", PipelineSettings.model_validate(pipeline))
    known = {Need(peer.name): peer for peer in peers}
    return complete_ensemble(map_by_name(message, known), known, "p", where="pipelines.p")


def test_where_names_match_nothing_is_mapped() -> None:
    config = complete(A, NEXT, steps=[{"model": "a"}, {"model": "next"}])
    assert [dict(step.input_map) for step in config.ensemble_scheduling.step] == [{"x": "x"}, {"y": "y"}]
    assert [io.name for io in config.input] == ["x"]
    assert [io.name for io in config.output] == ["z"]
    assert config.max_batch_size == 8


def test_where_they_differ_they_are_mapped() -> None:
    steps = [{"model": "a", "outputs": {"y": "p"}}, {"model": "b", "inputs": {"q": "x"}}]
    config = complete(A, B, steps=steps)
    assert dict(config.ensemble_scheduling.step[1].input_map) == {"p": "p", "q": "x"}
    assert [io.name for io in config.input] == ["x"]


def test_optional_inputs_are_left_alone() -> None:
    optional = model("next", {"y": (2,), "more": (2,)}, {"z": (2,)}, optional=("more",))
    config = complete(A, optional, steps=[{"model": "a"}, {"model": "next"}])
    assert "more" not in config.ensemble_scheduling.step[1].input_map


def test_a_version_may_be_named() -> None:
    message = pipeline_config("p", PipelineSettings.model_validate({"steps": [{"model": "a:7"}]}))
    assert (message.ensemble_scheduling.step[0].model_name, message.ensemble_scheduling.step[0].model_version) == (
        "a",
        7,
    )


def test_models_that_write_the_same_say_so() -> None:
    with pytest.raises(InvalidConfig, match=r"pipelines\.p: .*output_map\[y\] = 'y': must be a tensor of its own"):
        complete(A, steps=[{"model": "a"}, {"model": "a"}])


def test_everything_that_is_wrong_with_the_settings_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "taxiway.yaml"
    file.write_text(
        "pipelines:\n"
        "  good: {steps: [{model: a}]}\n"
        "  'no name': {steps: [{model: a}]}\n"
        "  empty: {steps: []}\n"
        "  odd: {steps: [{model: a@stable}, {modell: b}]}\n"
    )
    with pytest.raises(InvalidConfig) as caught:
        load_settings(file=file, environ={}, flags={})
    told = str(caught.value)
    for words in ("empty.steps", "odd.steps", "modell"):
        assert words in told
    assert "must be a model's name" in told
