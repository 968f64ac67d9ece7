"""A model in processes of its own, as the loader sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxiway.config.model_spec import ModelSpec
from taxiway.core.clock import Clock
from taxiway.core.errors import InvalidModel, ModelFailed, TaxiwayError
from taxiway.core.ports import InnerCaller
from taxiway.core.requests import NO_MORE, BatchResult, InferRequest, InputTensor
from taxiway.core.tensors import Datatype, TensorSpec
from taxiway.runtimes.hosted.frames import Declared, Learn
from taxiway.server.execution.processes.confusion import Confused
from taxiway.server.execution.processes.executor import ProcessExecutor
from taxiway.server.execution.processes.layout import RunReader, RunWriter
from taxiway.server.execution.processes.plan import LaunchPlan
from taxiway.server.execution.processes.process import ModelProcess

_STREAMS = 256
"""Requests of a decoupled model that one process may have at the same time."""


class HostedModel:
    """One version, loaded in a process; `spread` starts the others and makes the executor.

    Attributes:
        inputs, outputs: whole shapes, as far as the model declares them itself; empty if it does not.
        config: the configuration as the model has completed it, as JSON; None if it does not.
    """

    def __init__(self, plan: LaunchPlan) -> None:
        """Start the first process. Blocks until the model is loaded.

        Raises:
            InvalidModel: it cannot be.
        """
        self._plan = plan
        first, opened = ModelProcess.start(plan, 0)
        self._processes = [first]
        try:
            self.inputs = tuple(_spec(one) for one in opened.inputs or ())
            self.outputs = tuple(_spec(one) for one in opened.outputs or ())
        except InvalidModel:
            first.close()
            raise
        self._executor: ProcessExecutor | None = None
        self._learn: Learn | None = None
        self.config = opened.config
        self.declares = opened.inputs is not None and opened.outputs is not None
        self.batches = opened.batches

    def learn(self, spec: ModelSpec) -> None:
        """The configuration is complete: runs may follow, here to warm up."""
        batches = spec.max_batch_size > 0
        inputs = tuple(_declared(one, spec.reshapes, batches=batches) for one in spec.inputs)
        outputs = tuple(_declared(one, spec.reshapes, batches=batches) for one in spec.outputs)
        merged = max(1, spec.max_batch_size) if spec.dynamic_batching is not None else 1
        self._learn = Learn(inputs, outputs, batches, spec.decoupled, merged, spec.sequences is not None)
        self._writer = RunWriter(spec.inputs, spec.outputs, spec.reshapes, batches=batches)
        self._reader = RunReader(spec.outputs, spec.reshapes, batches=batches, decoupled=spec.decoupled)
        self._spec = spec

    def spread(
        self, instances: int, loop: asyncio.AbstractEventLoop, clock: Clock, inner: InnerCaller
    ) -> ProcessExecutor:
        """Start the other instances and have all of them run batches; `inner` answers what they ask of other models.

        Raises:
            InvalidModel: one of them cannot be started.
        """
        assert self._learn is not None  # noqa: S101 - `learn` comes first
        self._plan = replace(self._plan, instances=instances)
        if instances > 1:
            with ThreadPoolExecutor(instances - 1) as pool:
                started = [pool.submit(ModelProcess.start, self._plan, index) for index in range(1, instances)]
            problems = [one.exception() for one in started if one.exception() is not None]
            self._processes += [one.result()[0] for one in started if one.exception() is None]
            if problems and problems[0] is not None:
                raise problems[0]
        streams = _STREAMS if self._spec.decoupled else 1
        self._executor = ProcessExecutor(
            self._plan, self._processes, self._learn, self._writer, self._reader, loop, clock, inner, streams=streams
        )
        self._processes = []  # they are the executor's: one that dies must leave no memory behind
        return self._executor

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Compute `outputs` in the first process, before the executor has it: for warming up.

        Raises:
            ModelFailed: the model refused these inputs.
            InvalidModel: its process ended, took too long, or is not to be believed.
        """
        try:
            return self._run(feeds, outputs)
        except Confused as problem:
            raise InvalidModel(
                f"the process of model {self._plan.name!r} is not to be believed: {problem}"
            ) from problem

    def _run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        assert self._learn is not None  # noqa: S101 - `learn` comes first
        process = self._processes[0]
        process.tell(self._learn)
        inputs = [_tensor(feeds[spec.name], spec) if spec.name in feeds else None for spec in self._spec.inputs]
        rows = next((tensor.shape[0] for tensor in inputs if tensor is not None and tensor.shape), 1)
        request = InferRequest(inputs, rows if self._learn.batches else 1, _NOBODY, 0)
        flags = [process.outbox.take_flag() for _ in range(2)]
        ran, pieces = process.ask(self._writer.write(0, [request], flags, process.outbox))
        for flag in flags:
            process.outbox.drop_flag(flag)
        answers = [self._reader.piece(one, request, process.inbox) for one in pieces]
        outcome = self._reader.outcome(ran, [request], process.inbox)
        if outcome.result is None:
            raise outcome.error or ModelFailed("the model did not answer its warm-up")
        if outcome.result is not NO_MORE:
            answers.append(outcome.result)
        if problem := next((answer for answer in answers if isinstance(answer, TaxiwayError)), None):
            raise problem
        result = next((answer for answer in answers if isinstance(answer, BatchResult)), None)
        if result is None:  # a decoupled model may give no answer
            return []
        places = {spec.name: place for place, spec in enumerate(self._spec.outputs)}
        return [result.arrays[places[name]] for name in outputs]

    def close(self) -> None:
        """End all of them, also where nobody has come to use, and to close, the executor. Blocks."""
        if self._executor is not None:
            self._executor.close()
        else:
            for process in self._processes:
                process.close()
        self._processes.clear()


class _Nobody:
    """Waits for no answer."""

    def resolve(self, *_: object) -> None:
        """Nothing is answered."""

    def reject(self, *_: object) -> None:
        """Nothing is answered."""


_NOBODY = _Nobody()


def _spec(declared: Declared) -> TensorSpec:
    datatype = Datatype.by_name(declared.datatype)
    if datatype is None:
        raise InvalidModel(f"tensor {declared.name!r} of the model has datatype {declared.datatype!r}, which is none")
    return TensorSpec(declared.name, datatype, tuple(declared.shape), declared.optional)


def _declared(spec: TensorSpec, reshapes: Mapping[str, tuple[int, ...]], *, batches: bool) -> Declared:
    row = reshapes.get(spec.name, spec.shape)
    return Declared(spec.name, spec.datatype.wire_name, (-1, *row) if batches else row, spec.optional)


def _tensor(array: NDArray[Any], spec: TensorSpec) -> InputTensor:
    if spec.datatype is Datatype.BYTES:
        return InputTensor(array.ravel().tolist(), array.shape)
    return InputTensor(np.ascontiguousarray(array), array.shape)
