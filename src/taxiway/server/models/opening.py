"""From a version's files to a loaded model, by whichever runtime its backend names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taxiway.config.autocomplete import Defaults, autocomplete, declared_tensors
from taxiway.config.backends import ONNX, PYTHON, Backend, backend_of, backend_of_file, recognise
from taxiway.config.model_config import ModelConfig, from_json, new_config, to_json
from taxiway.config.model_defaults import uses_gpu
from taxiway.config.places import environments_place
from taxiway.config.settings import ModelSettings, Settings
from taxiway.core.errors import InvalidConfig
from taxiway.core.ports import LoadedModel
from taxiway.runtimes.onnx import OnnxRuntime
from taxiway.server.execution.processes.model import HostedModel
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.models.environments import interpreter_of
from taxiway.server.models.host import Host
from taxiway.server.models.options import devices_of, effective_instances, session_options
from taxiway.server.models.repository import FoundModel

_THREADS_AT_MOST = 4
_SCHEDULERS = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded model and the configuration that holds for it: its own code may have completed it."""

    model: LoadedModel
    message: ModelConfig
    instances: int
    """Of which one is loaded, unless all share one."""


def name_backend(message: ModelConfig, found: FoundModel) -> None:
    """Write into a configuration that does not say it whose model it is, by the files of its latest version."""
    if message.backend or message.platform or message.HasField("ensemble_scheduling") or not found.versions:
        return
    latest = found.versions[max(found.versions)]
    if latest.is_file():
        message.backend = (backend_of_file(latest) or ONNX).name
        return
    recognised = None if message.default_model_filename else recognise(latest)
    if recognised is not None and recognised[0] is not ONNX:
        backend, filename = recognised
        message.backend = backend.name
        message.default_model_filename = filename


class Opener:
    """Loads versions. Everything here blocks."""

    def __init__(self, settings: Settings, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._onnx = OnnxRuntime()

    def open(self, found: FoundModel, version: int, message: ModelConfig, settings: ModelSettings) -> Opened:
        """Load one version.

        Raises:
            InvalidModel: its file cannot be loaded.
            Unsupported: it asks for devices that it does not get.
        """
        backend = backend_of(message) or ONNX
        file = _file(found.versions[version], message, backend)
        if backend.hosted:
            return self._open_hosted(found, version, message, settings, backend, file)
        instances = settings.execution.instances or min(self._host.cpus, _THREADS_AT_MOST)
        options = session_options(settings, message, instances=instances, cpus=self._host.cpus)
        return Opened(self._onnx.load(file, options), message, instances)

    def _open_hosted(
        self,
        found: FoundModel,
        version: int,
        message: ModelConfig,
        settings: ModelSettings,
        backend: Backend,
        file: Path,
    ) -> Opened:
        instances = effective_instances(settings, message, settings.execution.instances or 1)
        execution = settings.execution
        parameters = {key: value.string_value for key, value in sorted(message.parameters.items())}
        kept = environments_place(execution.environments, os.environ)
        plan = LaunchPlan(
            backend=backend.name,
            name=found.name,
            version=version,
            directory=found.directory,
            file=file,
            config=to_json(_told(found, message, backend, instances)),
            parameters=parameters,
            python=interpreter_of(parameters, found.directory, kept) or execution.python or sys.executable,
            arena_bytes=execution.shared_memory_bytes,
            memory_bytes=execution.memory_bytes,
            cpus=_share_cpus(sorted(os.sched_getaffinity(0)), self._host.cpus, instances) if execution.pin_cpus else (),
            threads=execution.intra_op_threads or max(1, self._host.cpus // instances),
            trusted=tuple(digest.removeprefix("sha256:") for digest in settings.trust),
            load_timeout_s=execution.load_timeout_s,
            instances=instances,
            kinds=devices_of(message, instances, gpu=uses_gpu(settings)),
            compat=self._settings.compat,
        )
        model = HostedModel(plan)
        if model.config is not None:
            try:
                message = from_json(model.config, f"the configuration that model {found.name!r} completed")
            except InvalidConfig:
                model.close()
                raise
        return Opened(model, message, instances)


def _told(found: FoundModel, message: ModelConfig, backend: Backend, instances: int) -> ModelConfig:
    """The configuration as the model is told it, completed as far as it can be before the model is asked.

    A `model.py` may complete its tensors and its batching itself: of those it is told what was configured.
    """
    defaults = Defaults(instance_count=instances)
    if backend is not PYTHON:
        inputs, outputs = declared_tensors(message)
        return autocomplete(message, inputs, outputs, found.name, defaults=defaults)
    rest = new_config()
    rest.CopyFrom(message)
    for field in ("max_batch_size", "input", "output", *_SCHEDULERS):
        rest.ClearField(field)
    told = autocomplete(rest, (), (), found.name, defaults=defaults)
    told.max_batch_size = message.max_batch_size
    for side in ("input", "output"):
        getattr(told, side).MergeFrom(getattr(message, side))
    scheduler = message.WhichOneof("scheduling_choice")
    if scheduler is not None:
        getattr(told, scheduler).CopyFrom(getattr(message, scheduler))
    return told


def _file(version: Path, message: ModelConfig, backend: Backend) -> Path:
    if version.is_file():
        return version
    named: str = message.default_model_filename
    if not named:
        named = next((name for name in backend.filenames if (version / name).exists()), backend.filenames[0])
    return version / named


def _share_cpus(allowed: Sequence[int], cpus: int, instances: int) -> tuple[tuple[int, ...], ...]:
    """The processors of each instance: as many for each as there are, none for two if that can be.

    `allowed` are those that this process may use (a container's need not begin with 0), and `cpus` is of how many it
    gets the time.
    """
    each = max(1, min(cpus, len(allowed)) // instances)
    return tuple(
        tuple(sorted({allowed[(index * each + offset) % len(allowed)] for offset in range(each)}))
        for index in range(instances)
    )
