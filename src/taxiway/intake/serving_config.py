"""The config.pbtxt of a version: written from what was understood, or the model's own, kept."""

from __future__ import annotations

from typing import Final

from taxiway.config.autocomplete import supports_batching
from taxiway.config.backends import BACKENDS, ONNX
from taxiway.config.model_config import TYPE_NAMES, ModelConfig, new_config, parse_pbtxt, to_pbtxt
from taxiway.core.tensors import TensorSpec
from taxiway.intake.nouns import Understanding

Signature = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs."""


ROWS_AT_MOST: Final = 4096
"""Rows that a request may have of a model whose tensors a person named: as where the server finds that out itself."""


def write_config(model: Understanding, name: str, said: Signature = ((), ())) -> str:
    """The configuration that the version `name` is served under.

    One that came with the model is kept to the letter, unless it says another name or pins versions by number. Of any
    other, it says no more than nobody finds out by itself: whose model it is, and the tensors that a person named. A
    model that runs in a process of its own tells its tensors when it is loaded, so that it is served alike whether
    it was imported or not.

    Args:
        model: what was understood.
        name: of the version's model.
        said: inputs and outputs that a person named: whole shapes.
    """
    if model.config is not None:
        return _kept(model.config, name)
    config = new_config()
    if model.backend:
        config.backend = model.backend
    if model.platform:
        config.platform = model.platform
    config.default_model_filename = _filename(model)
    is_onnx = model.backend == ONNX.name
    sides = (model.inputs, model.outputs) if is_onnx else said
    tensors = (*sides[0], *sides[1])
    if all(spec.shape for spec in tensors):
        rows = supports_batching(*sides)
        if rows and not is_onnx:
            config.max_batch_size = ROWS_AT_MOST
        for side, specs in ((config.input, sides[0]), (config.output, sides[1])):
            for spec in specs:
                _declare(side.add(), spec, rows=rows)
    return to_pbtxt(config)


def _filename(model: Understanding) -> str:
    """The model's file, where the backend would look for another one first; it is the first that was named."""
    backend = BACKENDS.get(model.backend)
    first = next(iter((*model.made, *model.files)), "").removeprefix("@/")
    known = backend is not None and first in backend.filenames
    return first if backend is not None and known and first != backend.filenames[0] else ""


def _declare(tensor: ModelConfig, spec: TensorSpec, *, rows: bool) -> None:
    """One input or output: as one row looks where a request may have several, else as the whole does."""
    tensor.name = spec.name
    tensor.data_type = (
        tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name[TYPE_NAMES[spec.datatype]].number
    )
    dims = spec.shape[1:] if rows else spec.shape
    tensor.dims.extend(dims or (1,))
    if not dims:
        tensor.reshape.SetInParent()
    if spec.optional:
        tensor.optional = True


def _kept(text: str, name: str) -> str:
    """A configuration without what would be wrong here: another name, and numbers of versions that are others now."""
    config = parse_pbtxt(text, "config.pbtxt")
    pinned = config.HasField("version_policy") and config.version_policy.HasField("specific")
    if config.name in ("", name) and not pinned:
        return text
    if pinned:
        config.ClearField("version_policy")
    config.name = ""
    return to_pbtxt(config)
