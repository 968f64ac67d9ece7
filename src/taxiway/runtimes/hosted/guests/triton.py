"""Triton's Python backend: a `model.py` with a class TritonPythonModel, unchanged."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import threading
import traceback
from collections.abc import Sequence
from functools import partial
from time import monotonic_ns
from types import ModuleType
from typing import Any

from taxiway.core.errors import InvalidModel, ModelFailed
from taxiway.runtimes.hosted.batch import Answer, Batch, Request, Settled
from taxiway.runtimes.hosted.code import load_code
from taxiway.runtimes.hosted.frames import Learn, Opened, Ran
from taxiway.runtimes.hosted.guest import Source
from taxiway.runtimes.hosted.lines import Lines
from taxiway.runtimes.hosted.triton import pb_utils
from taxiway.runtimes.hosted.triton.model_config import ModelConfig, filled
from taxiway.runtimes.hosted.triton.requests import IncomingRequest
from taxiway.runtimes.hosted.triton.responses import InferenceResponse, Usual
from taxiway.runtimes.hosted.triton.senders import Once, OnceOutlet, Stream, StreamOutlet
from taxiway.runtimes.hosted.triton.session import Phase, Session, begin
from taxiway.runtimes.hosted.triton.tracebacks import described


class _Misbehaved(Exception):
    """`execute` returned what it must not."""


_RETURNED = "Python model '{}' is using the decoupled mode and the execute function must return None."


class TritonGuest:
    """Runs a TritonPythonModel."""

    def __init__(self, model: Any, session: Session, opened: Opened) -> None:  # noqa: ANN401 - the user's class
        self._model = model
        self._session = session
        self._send = session.lines.mailbox.send
        self._instance = session.source.instance
        self._places = session.source.compat == "triton"
        self.opened = opened

    def learn(self, names: Learn) -> None:
        """Runs come next."""
        self._decoupled = names.decoupled
        self._settled = Settled(names, self._session.lines.outbox)
        self._usual = Usual(names)
        self._every = frozenset(spec.name for spec in names.outputs)
        if names.decoupled:
            self._session.orphans.watch()

    def run(self, batches: Sequence[Batch]) -> None:
        """Execute each of them; of a decoupled model all of them together."""
        self._session.phase = Phase.SERVING
        if self._decoupled:
            self._run_streams(batches)
            return
        for batch in batches:
            self._run(batch)

    def close(self) -> None:
        """Have the model finalize."""
        self._session.phase = Phase.CLOSING
        if hasattr(self._model, "finalize"):
            self._model.finalize()

    # --- models that answer once --------------------------------------------------------------------------

    def _run(self, batch: Batch) -> None:
        started = monotonic_ns()
        run = batch.id
        requests = [
            IncomingRequest(request, self._every, (run, place), self._make_once)
            for place, request in enumerate(batch.requests)
        ]
        self._session.running = (run, 0 if len(requests) == 1 else -1)
        merged = monotonic_ns()
        answers: Sequence[Answer | None]
        try:
            answers = self._answers(self._execute(requests), requests)
        except BaseException as problem:  # noqa: BLE001 - the boundary: whatever a model raises becomes an answer
            failure = self._failure(problem)
            answers = [failure] * len(requests)
            for request in requests:
                _close(request, failure)
        computed = monotonic_ns()
        if any(answer is None for answer in answers):
            _Late(self._settled, self._send, batch, answers, (started, merged, computed)).wait(requests)
            return
        block, whole, parts = self._settled.each(answers)  # type: ignore[arg-type]  # none is None
        self._send(Ran(run, block, started, merged, computed, monotonic_ns(), whole, parts))

    def _make_once(self, request: Request) -> OnceOutlet:
        self._session.orphans.watch()
        return OnceOutlet(Once(request, self._usual), self._session.orphans)

    def _answers(self, returned: Any, requests: Sequence[IncomingRequest]) -> list[Answer | None]:  # noqa: ANN401
        """What each request is answered with; None where that is still to come."""
        if returned is None:
            returned = [None] * len(requests)
        if returned.__class__ is not list and not isinstance(returned, list):
            raise _Misbehaved(f"Expected a list in the execute return, found type '{type(returned)}'.")
        if len(returned) != len(requests):
            raise _Misbehaved(
                "Number of InferenceResponse objects do not match the number of InferenceRequest objects. "
                f"InferenceRequest(s) size is:{len(requests)}, and InferenceResponse(s) size is:{len(returned)}\n"
            )
        return [self._answer(response, request) for response, request in zip(returned, requests, strict=True)]

    def _answer(self, response: Any, request: IncomingRequest) -> Answer | None:  # noqa: ANN401
        outlet = request.known_outlet()
        if response is None:
            if outlet is None:
                raise _Misbehaved("execute returned None for a request to which nothing can be sent any more")
            return None
        if not isinstance(response, InferenceResponse):
            raise _Misbehaved(
                "Expected an 'InferenceResponse' object in the execute function return list, found type "
                f"'{type(response)}'."
            )
        if outlet is not None:
            outlet.give(response, final=True)
        return response.answer(self._usual, request.came)

    # --- models that answer any number of times -----------------------------------------------------------

    def _run_streams(self, batches: Sequence[Batch]) -> None:
        started = monotonic_ns()
        streams = [Stream(batch, self._settled, self._usual, self._session.lines.mailbox, started) for batch in batches]
        requests = [
            IncomingRequest(stream.request, self._every, (batch.id, 0), partial(_make_stream, stream, self._session))
            for stream, batch in zip(streams, batches, strict=True)
        ]
        for request in requests:
            request.outlet()  # a request that the model never looks at is answered too
        self._session.running = (batches[0].id, 0) if len(batches) == 1 else (-1, -1)
        try:
            returned = self._model.execute(requests)
            if inspect.iscoroutine(returned):
                future = self._session.start(returned)
                future.add_done_callback(partial(self._came_back, streams))
            elif returned is not None:
                self._fail(streams, _Misbehaved(_RETURNED.format(self._instance)))
        except BaseException as problem:  # noqa: BLE001 - the boundary, as above
            self._fail(streams, problem)

    def _came_back(self, streams: Sequence[Stream], future: Any) -> None:  # noqa: ANN401 - a Future
        """An asynchronous `execute` is over."""
        problem = future.exception()
        if problem is not None:
            self._fail(streams, problem)

    def _fail(self, streams: Sequence[Stream], problem: BaseException) -> None:
        failure = self._failure(problem)
        for stream in streams:
            stream.fail(failure)

    # --- both ---------------------------------------------------------------------------------------------

    def _execute(self, requests: list[IncomingRequest]) -> Any:  # noqa: ANN401 - whatever the model returns
        returned = self._model.execute(requests)
        if returned.__class__ is not list and inspect.iscoroutine(returned):
            return self._session.start(returned).result()
        return returned

    def _failure(self, problem: BaseException) -> ModelFailed:
        """What the requests are told that a model failed on, in Triton's words."""
        if isinstance(problem, _Misbehaved):
            reason = str(problem)
        else:
            traceback.print_exception(problem)
            reason = described(problem, places=self._places)
        return ModelFailed(f"Failed to process the request(s) for model '{self._instance}', message: {reason}")


class _Late:
    """A run some of whose requests are answered after `execute` has returned."""

    def __init__(
        self,
        settled: Settled,
        send: Any,  # noqa: ANN401 - the mailbox's
        batch: Batch,
        answers: Sequence[Answer | None],
        times: tuple[int, int, int],
    ) -> None:
        self._settled = settled
        self._send = send
        self._batch = batch
        self._answers = list(answers)
        self._times = times
        self._left = sum(answer is None for answer in answers)
        self._lock = threading.Lock()

    def wait(self, requests: Sequence[IncomingRequest]) -> None:
        """Send what they are answered once all of them are."""
        for place, request in enumerate(requests):
            outlet = request.known_outlet()
            if self._answers[place] is None and isinstance(outlet, OnceOutlet):
                outlet.once.wait(partial(self._answered, place))

    def _answered(self, place: int, answer: Answer) -> None:
        with self._lock:
            self._answers[place] = answer
            self._left -= 1
            if self._left:
                return
        given = [answer for answer in self._answers if answer is not None]
        block, whole, parts = self._settled.each(given)
        self._send(Ran(self._batch.id, block, *self._times, monotonic_ns(), whole, parts))


def _close(request: IncomingRequest, failure: ModelFailed) -> None:
    """What the model may still want to send to it is too late."""
    outlet = request.known_outlet()
    if isinstance(outlet, OnceOutlet):
        outlet.once.settle(failure)


def _make_stream(stream: Stream, session: Session, _: Request) -> StreamOutlet:
    return StreamOutlet(stream, session.orphans)


# --- loading ---------------------------------------------------------------------------------------------


def open_model(source: Source, lines: Lines) -> TritonGuest:
    """Load `model.py` and initialize its model."""
    sys.modules["triton_python_backend_utils"] = pb_utils
    session = begin(source, lines)
    try:
        factory = _class_of(_load(source), source)
        config, completed = _completed(factory, source)
        model = factory()
        if hasattr(model, "initialize"):
            model.initialize(_arguments(source, config))
    except InvalidModel:
        raise
    except BaseException as problem:
        if source.compat != "triton":
            raise
        traceback.print_exception(problem)
        raise InvalidModel(f"Internal: {described(problem, places=True)}") from problem
    if not hasattr(model, "execute"):
        raise InvalidModel(f"Python model {source.file} does not implement `execute` method.")
    return TritonGuest(model, session, Opened(config=completed))


def _load(source: Source) -> ModuleType:
    """The module, as Triton names it: `1.model`, so that it may import its neighbours from its own package."""
    file = source.file
    if file.parent.parent != source.directory or not file.is_file():
        return load_code(file, "model")
    sys.path[1:1] = [str(file.parent), str(source.directory)]
    return importlib.import_module(f"{file.parent.name}.{file.stem}")


def _class_of(module: ModuleType, source: Source) -> Any:  # noqa: ANN401 - the user's class
    if not hasattr(module, "TritonPythonModel"):
        raise InvalidModel(f"{source.file} holds no class TritonPythonModel")
    return module.TritonPythonModel


def _completed(factory: Any, source: Source) -> tuple[dict[str, Any], str | None]:  # noqa: ANN401 - the user's class
    """The configuration for `initialize`; and as the model has completed it, if it does."""
    if not hasattr(factory, "auto_complete_config"):
        return json.loads(source.config), None
    completed = factory.auto_complete_config(ModelConfig(source.config))
    if not isinstance(completed, ModelConfig):
        raise InvalidModel(
            f"auto_complete_config function in model '{source.name}' must return a valid pb.ModelConfig object."
        )
    config = completed.as_dict()
    return filled(config), json.dumps(config)


def _arguments(source: Source, config: dict[str, Any]) -> dict[str, str]:
    """What `initialize` is given, as Triton gives it."""
    return {
        "model_config": json.dumps(config, separators=(",", ":")),
        "model_instance_kind": source.kind,
        "model_instance_name": source.instance,
        "model_instance_device_id": str(source.device),
        "model_repository": str(source.directory),
        "model_version": str(source.version),
        "model_name": source.name,
    }
