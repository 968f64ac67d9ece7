"""The config.pbtxt of a version: written from what was understood, or the model's own, kept."""

from __future__ import annotations

from taxiway.config.autocomplete import supports_batching
from taxiway.config.backends import BACKENDS, ONNX
from taxiway.config.model_config import TYPE_NAMES, ModelConfig, new_config, parse_pbtxt, to_pbtxt
from taxiway.core.tensors import TensorSpec
from taxiway.intake.nouns import Understanding

_TELLING = frozenset({"torch-export"})
"""Formats whose models, once they are loaded, tell all of their tensors, and which dimension counts rows."""


def write_config(model: Understanding, name: str) -> str:
    """The configuration that the version `name` is served under.

    One that came with the model is kept to the letter, unless it says another name or pins versions by number.
    """
    if model.config is not None:
        return _kept(model.config, name)
    config = new_config()
    if model.backend:
        config.backend = model.backend
    if model.platform:
        config.platform = model.platform
    config.default_model_filename = _filename(model)
    tensors = (*model.inputs, *model.outputs)
    if all(spec.shape for spec in tensors) and model.format not in _TELLING:
        rows = model.backend == ONNX.name and supports_batching(model.inputs, model.outputs)
        for side, specs in ((config.input, model.inputs), (config.output, model.outputs)):
            for spec in specs:
                _declare(side.add(), spec, rows=rows)
    return to_pbtxt(config)


def _filename(model: Understanding) -> str:
    """The model's file, where the backend would look for another one first; it is the first that was named."""
    backend = BACKENDS.get(model.backend)
    first = next(iter(model.files), "").removeprefix("@/")
    known = backend is not None and first in backend.filenames
    return first if backend is not None and known and first != backend.filenames[0] else ""


def _declare(tensor: ModelConfig, spec: TensorSpec, *, rows: bool) -> None:
    """One input or output.

    As one row looks where the server finds out by itself how many rows a model takes at once, which it does of ONNX; as
    the whole looks elsewhere: then requests of any number of rows are right, and none are merged until somebody says
    max_batch_size.
    """
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
