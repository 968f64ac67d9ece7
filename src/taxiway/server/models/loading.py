"""From a model on disk to versions that are loaded, measured, warm and ready."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from taxiway.config.autocomplete import autocomplete, declared_tensors
from taxiway.config.backends import is_ensemble
from taxiway.config.ensemble_spec import Need, read_ensemble
from taxiway.config.ensemble_tensors import Peers
from taxiway.config.model_config import ModelConfig, from_json, new_config, parse_pbtxt, to_json_dict
from taxiway.config.model_defaults import defaults_from, overrides_from, uses_gpu
from taxiway.config.model_spec import (
    build_spec,
    ignored_fields,
    refuse_unsupported,
    version_policy,
)
from taxiway.config.pipelines import pipeline_config
from taxiway.config.settings import ModelSettings, Settings
from taxiway.core.errors import InvalidConfig, InvalidModel
from taxiway.server.cache.store import AnswerStore
from taxiway.server.execution.processes.model import HostedModel
from taxiway.server.models.assembling import Assembler, Completed
from taxiway.server.models.composed import EnsembleAssembler
from taxiway.server.models.fingerprint import Fingerprint, stamp_model
from taxiway.server.models.host import Host
from taxiway.server.models.opening import Opened, Opener, name_backend
from taxiway.server.models.repository import FoundModel
from taxiway.server.models.served import ServedModel
from taxiway.telemetry.logs import Log

_log = Log("taxiway.models")

AUTOMATIC_MAX_BATCH_SIZE = 4096
"""Rows one request may have where nothing says otherwise and the file can batch."""
TRITON_MAX_BATCH_SIZE = 4
"""What Triton completes instead (--backend-config=default-max-batch-size)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is to be served of a model: its configuration, and the versions that this chooses.

    Attributes:
        found: where they lie.
        message: what is configured, not completed yet.
        versions: what each chosen version is made of.
    """

    found: FoundModel
    message: ModelConfig
    versions: Mapping[int, Fingerprint]

    @property
    def nbytes(self) -> int:
        """The size of the files of all chosen versions."""
        return sum(print_.nbytes for print_ in self.versions.values())

    @property
    def needs(self) -> tuple[Need, ...]:
        """The models that it asks."""
        ensemble = read_ensemble(self.message)
        return () if ensemble is None else ensemble.needs

    @property
    def policy(self) -> Mapping[str, Any]:
        """Its version policy, as Triton's configuration JSON has it: the one thing that versions are not loaded for."""
        own = new_config()
        own.version_policy.latest.num_versions = 1
        if self.message.HasField("version_policy"):
            own.version_policy.CopyFrom(self.message.version_policy)
        policy: Mapping[str, Any] = to_json_dict(own)["version_policy"]
        return policy


class ModelLoader:
    """Loads models for one server. Everything here may block, and may run beside the event loop.

    Args:
        store: keeps the answers of versions that are cached; None: none is.
    """

    def __init__(self, settings: Settings, host: Host, store: AnswerStore | None = None) -> None:
        self._settings = settings
        self._assembler = Assembler(settings, host, store)
        self._ensembles = EnsembleAssembler(settings, host, store)
        self._is_strict = settings.compat == "strict"
        self._host = host
        self._opener = Opener(settings, host)

    def prepare(self, found: FoundModel) -> Prepared:
        """Read the configuration of `found` and choose its versions; no model file is opened.

        Raises:
            InvalidConfig, Unsupported: its configuration is wrong, or asks for what is not done.
            InvalidModel: it has no version.
            OSError: a file cannot be looked at.
        """
        message = _read_config(found)
        name_backend(message, found)
        refuse_unsupported(message, found.name, gpu=uses_gpu(self._settings.for_model(found.name)))
        if message.HasField("sequence_batching"):
            self._refuse_workers(found)
        chosen = _choose_versions(found, message)
        for path in ignored_fields(message):
            _log.warning("config_field_ignored", model=found.name, setting=path)
        stamps = stamp_model(found)
        config = _config_of_versions(message)
        versions = {number: Fingerprint(stamps.versions[number], stamps.shared, config) for number in chosen}
        return Prepared(found, message, versions)

    def load(self, prepared: Prepared, version: int, peers: Peers) -> ServedModel:
        """One version, measured and warm. It is completed from its own file: versions may have different signatures.

        Args:
            prepared: what is to be served.
            version: which of its versions.
            peers: the models that it asks, as they are served now.

        Raises:
            InvalidConfig, Unsupported: its configuration contradicts its file, or the models that it asks.
            InvalidModel: its file cannot be loaded, or its warm-up failed.
        """
        began_ns = self._host.clock.monotonic_ns()
        if is_ensemble(prepared.message):
            served = self._ensembles.assemble(prepared.found, prepared.message, version, peers)
        else:
            served = self._load_file(prepared, version)
        served.statistics.load_s = (self._host.clock.monotonic_ns() - began_ns) / 1e9
        return served

    def _load_file(self, prepared: Prepared, version: int) -> ServedModel:
        found, message = prepared.found, prepared.message
        settings = self._settings.for_model(found.name)
        settings = replace(settings, trust=(*settings.trust, *found.trusted))
        opened = self._opener.open(found, version, message, settings)
        model = opened.model
        try:
            several = len(prepared.versions) > 1
            where = found.where + (f" (version {version})" if several else "")
            completed = self._complete(found, opened, settings, where)
            spec = build_spec(completed, found.directory, gpu=uses_gpu(settings))
            if isinstance(model, HostedModel):
                model.learn(spec)
            return self._assembler.assemble(Completed(version, model, message, spec, to_json_dict(completed), settings))
        except BaseException:
            model.close()
            raise

    def close(self, served: ServedModel) -> None:
        """Free a version whose front is closed, and that runs nothing; the memory goes back to the system."""
        served.engine.close()
        _trim_memory()

    def _refuse_workers(self, found: FoundModel) -> None:
        """A stateful model lives in one process, and nobody can say in which of several a connection ends.

        Raises:
            InvalidConfig: there are several.
        """
        workers = self._settings.workers
        if workers > 1:
            raise InvalidConfig(
                f"model {found.name!r} is stateful (sequence_batching), and workers is {workers}: the requests of one "
                "sequence would reach several processes, each with a state of its own",
                hint="serve it with --workers 1, in a server of its own if other models need more",
                workers=workers,
            )

    def _complete(self, found: FoundModel, opened: Opened, settings: ModelSettings, where: str) -> ModelConfig:
        message, model = opened.message, opened.model
        automatic = AUTOMATIC_MAX_BATCH_SIZE if self._is_strict else TRITON_MAX_BATCH_SIZE
        inputs, outputs = model.inputs, model.outputs
        if isinstance(model, HostedModel):
            automatic = automatic if model.batches else 0
            if not model.declares:
                inputs, outputs = declared_tensors(message)
        defaults = defaults_from(settings, automatic_max_batch_size=automatic, instance_count=opened.instances)
        if message.max_batch_size and not self._is_strict:
            # Triton completes a batcher only where it also chose the batch size.
            defaults = replace(defaults, dynamic_batching=False)
        return autocomplete(
            message,
            inputs,
            outputs,
            found.name,
            defaults=defaults,
            overrides=overrides_from(settings),
            where=where,
        )


def _read_config(found: FoundModel) -> ModelConfig:
    """What was given with the call, or what config.pbtxt says; empty if there is neither.

    Raises:
        InvalidConfig: it cannot be read.
    """
    if found.pipeline is not None:
        return pipeline_config(found.name, found.pipeline)
    if found.given is not None:
        return from_json(found.given, f"the configuration given for model {found.name!r}")
    if found.config is None:
        return new_config()
    try:
        text = found.config.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"is not UTF-8: {error}"
        raise InvalidConfig(
            f"{found.config} of model {found.name!r} cannot be read: {reason}",
            hint="make it a UTF-8 text file that this user may read, or remove it: what the file says is enough",
            path=str(found.config),
        ) from error
    return parse_pbtxt(text, str(found.config))


def _config_of_versions(message: ModelConfig) -> bytes:
    """What of a configuration decides how a version is served: all but which versions are."""
    own = new_config()
    own.CopyFrom(message)
    own.ClearField("version_policy")
    return bytes(own.SerializeToString(deterministic=True))


def _trim_memory() -> None:
    """Have the allocator give back what nothing uses: it would keep a closed model's pages for the next one."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _choose_versions(found: FoundModel, message: ModelConfig) -> tuple[int, ...]:
    """The versions to serve.

    Raises:
        InvalidModel: there is none, or the version policy chooses none.
    """
    if not found.versions:
        hint = f"put a model into {found.directory}/1/model.onnx"
        if is_ensemble(message):
            hint = f"make an empty directory {found.directory}/1: the version of the ensemble"
        raise InvalidModel(f"model {found.name!r} has no version", hint=hint)
    if found.only is not None:
        if found.only not in found.versions:
            raise InvalidModel(
                f"model {found.name!r} has no version {found.only} at {found.directory}",
                hint=f"its versions are {', '.join(map(str, sorted(found.versions)))}",
            )
        return (found.only,)
    chosen = version_policy(message).choose(found.versions)
    if not chosen:
        raise InvalidModel(
            f"version_policy of model {found.name!r} chooses none of its versions {sorted(found.versions)}",
            hint="name a version that exists, or leave version_policy out",
        )
    return chosen
