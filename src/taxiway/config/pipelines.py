"""Chains of models that the settings name (`pipelines`), as configurations of ensembles.

Where names match, maps are left out: an input that is not mapped reads the tensor of its own name, an output that is
not mapped writes it. What no step writes is an input of the pipeline, what no step reads is an output.
"""

from __future__ import annotations

import copy

from taxiway.config.backends import ENSEMBLE
from taxiway.config.ensemble_spec import read_ensemble
from taxiway.config.ensemble_tensors import Peers
from taxiway.config.model_config import ModelConfig, new_config
from taxiway.config.settings import PipelineSettings
from taxiway.core.refs import ModelRef


def pipeline_config(name: str, pipeline: PipelineSettings) -> ModelConfig:
    """The configuration of an ensemble, with the maps that are given."""
    config = new_config()
    config.name, config.platform = name, ENSEMBLE
    for given in pipeline.steps:
        ref = ModelRef.parse(given.model)
        step = config.ensemble_scheduling.step.add()
        step.model_name, step.model_version = ref.name, ref.version or -1
        step.input_map.update(given.inputs)
        step.output_map.update(given.outputs)
    return config


def map_by_name(message: ModelConfig, peers: Peers) -> ModelConfig:
    """A copy in which every tensor of every model is mapped, those that were not to tensors of their own names."""
    config = copy.deepcopy(message)
    ensemble = read_ensemble(config)
    for given, step in zip(config.ensemble_scheduling.step, () if ensemble is None else ensemble.steps, strict=True):
        peer = peers.get(step.need)
        if peer is None:
            continue
        for mapped, tensors in ((given.input_map, peer.inputs), (given.output_map, peer.outputs)):
            for tensor in tensors:
                if tensor.name not in mapped and not tensor.optional:
                    mapped[tensor.name] = tensor.name
    return config
