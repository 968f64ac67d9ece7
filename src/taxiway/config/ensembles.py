"""Completing the configuration of a graph of models, and checking it against the models that it asks."""

from __future__ import annotations

import copy
from dataclasses import replace

from taxiway.config.autocomplete import complete_identity, complete_version_policy
from taxiway.config.ensemble_graph import STEP, Refuse, check_graph
from taxiway.config.ensemble_spec import EnsembleSpec, read_ensemble
from taxiway.config.ensemble_tensors import Peers, complete_tensors
from taxiway.config.model_config import ModelConfig
from taxiway.config.model_spec import ModelSpec
from taxiway.config.problems import Problem, invalid_config

_HINT = "correct the named fields; inputs and outputs may be left out, they are those of the models"


def complete_ensemble(message: ModelConfig, peers: Peers, directory_name: str, *, where: str) -> ModelConfig:
    """A completed copy of `message`.

    Args:
        message: what the user configured.
        peers: the models it asks, as far as they are served.
        directory_name: the model's directory, whose name is the model's.
        where: the configuration's file, for messages.

    Raises:
        InvalidConfig: it contradicts itself or its models; `facts['problems']` holds everything.
    """
    config = copy.deepcopy(message)
    problems: list[Problem] = []

    def refuse(path: str, value: object, rule: str) -> None:
        problems.append(Problem(path, value, rule, where))

    spec = read_ensemble(config)
    check_graph(config, spec, refuse)
    complete_identity(config, directory_name, refuse)
    complete_version_policy(config, refuse)
    if config.max_batch_size < 0:
        refuse("max_batch_size", config.max_batch_size, "must be 0 (does not batch) or more")
    if spec is not None:
        _check_peers(spec, peers, refuse)
        complete_tensors(config, spec, peers, refuse)
    if problems:
        raise invalid_config(f"the configuration of ensemble {directory_name!r}", problems, hint=_HINT)
    return config


def with_labels(spec: ModelSpec, peers: Peers) -> ModelSpec:
    """An output without labels of its own has those of the model's output that it is."""
    if spec.ensemble is None:
        return spec
    labels = {
        tensor: output.labels
        for step in spec.ensemble.steps
        for output in peers[step.need].outputs
        if (tensor := step.outputs.get(output.name)) is not None
    }
    outputs = tuple(replace(output, labels=output.labels or labels.get(output.name, ())) for output in spec.outputs)
    return replace(spec, outputs=outputs)


def _check_peers(spec: EnsembleSpec, peers: Peers, refuse: Refuse) -> None:
    for index, step in enumerate(spec.steps):
        if step.need not in peers and step.need.model:
            refuse(f"{STEP}[{index}].model_name", str(step.need), "is not served")
