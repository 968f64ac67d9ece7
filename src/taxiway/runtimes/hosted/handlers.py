"""TorchServe's handlers: found, initialized, called with batches, their answers as bytes."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from taxiway.core.errors import InvalidModel, ModelFailed, TaxiwayError, Unsupported
from taxiway.runtimes.hosted import ts_shim
from taxiway.runtimes.hosted.archives import Archive

_JSON = "application/json"
_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"


class Row(NamedTuple):
    """One request as a handler sees it.

    Attributes:
        fields: by name: of a form, or one, `body` or `data`.
        headers: the request's, and the type of each field.
        id: the caller's; empty if it gave none.
    """

    fields: Mapping[str, Any]
    headers: Mapping[str, Any]
    id: str


class Reply(NamedTuple):
    """What a handler answers one request."""

    body: bytes
    status: int
    headers: Mapping[str, str]


Entry = Callable[[Sequence[Mapping[str, Any]] | None, Any], Any]
"""What a handler is in the end: (requests of a batch, context) -> answers."""


class Handler:
    """A handler that is ready.

    Args:
        archive: where it lies; its directory is found by `import` from here on.
        name: the model's.
        rows: requests that a batch may have.
        gpu: the device; None for the CPU.
        trusted: digests of the pickles that may be loaded.
        metrics: takes what it measures.
    """

    def __init__(
        self,
        archive: Archive,
        name: str,
        *,
        rows: int,
        gpu: int | None,
        trusted: frozenset[str],
        metrics: Any,  # noqa: ANN401
    ) -> None:
        _offer_ts()
        sys.path.insert(0, str(archive.directory))
        ts, context = importlib.import_module("ts"), importlib.import_module("ts.context")
        self._processor: Callable[[Mapping[str, Any]], Any] = context.RequestProcessor
        self._refusal: type[Exception] = importlib.import_module("ts.utils.util").PredictionException
        told = dict(archive.config)
        self._context = context.Context(
            name, str(archive.directory), archive.manifest, rows, gpu, ts.__version__, True, metrics, told
        )
        self._context.system_properties["trusted_pickles"] = tuple(trusted)
        self._entry = _enter(archive.handler, self._context)

    def answer(self, rows: Sequence[Row]) -> list[Reply]:
        """What it answers a batch.

        Raises:
            ModelFailed: it raised, or what it returned is no answer; `facts["status"]` is the status it wants, if any.
        """
        context = self._context
        context.request_ids = {index: row.id for index, row in enumerate(rows)}
        context.request_processor = [self._processor(dict(row.headers)) for row in rows]
        context.metrics.request_ids = context.request_ids
        try:
            given = self._entry([dict(row.fields) for row in rows], context)
        except self._refusal as refusal:
            raise _refused(refusal) from refusal
        except MemoryError as problem:
            raise ModelFailed("the handler is out of memory", status=507) from problem
        if not isinstance(given, list) or len(given) != len(rows):
            told = f"{len(given)} answers" if isinstance(given, list) else type(given).__name__
            raise ModelFailed(
                f"the handler returned {told} for {len(rows)} requests; it must return a list of one for each",
                hint="set batchSize: 1 in the archive's configuration file, or max_batch_size: 1 in config.pbtxt, "
                "if it takes one request at a time",
            )
        return [self._reply(index, one) for index, one in enumerate(given)]

    def _reply(self, index: int, given: Any) -> Reply:  # noqa: ANN401 - whatever a handler returns
        processor = self._context.request_processor[index]
        body, media_type = _as_bytes(given)
        headers = {str(name).lower(): str(value) for name, value in processor.get_response_headers().items()}
        headers.setdefault("content-type", media_type)
        return Reply(body, int(processor.get_response_status_code() or 200), headers)


def _as_bytes(given: Any) -> tuple[bytes, str]:  # noqa: ANN401
    """An answer as TorchServe sends it, and what it is."""
    if isinstance(given, bytes | bytearray):
        return bytes(given), _BYTES
    if isinstance(given, str):
        return given.encode(), _TEXT
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(given, torch.Tensor):
        saved = io.BytesIO()
        torch.save(given, saved)
        return saved.getvalue(), _BYTES
    try:
        return json.dumps(given, indent=2).encode(), _JSON
    except (TypeError, ValueError) as problem:
        raise ModelFailed(
            f"the handler's answer cannot be told in JSON: {problem}", hint="return str, bytes, or lists and dicts"
        ) from problem


def _refused(refusal: Any) -> ModelFailed:  # noqa: ANN401 - a PredictionException, whose class is only known there
    return ModelFailed(str(refusal.message), status=int(refusal.error_code))


def _offer_ts() -> None:
    """Let `import ts` find TorchServe's package if that is installed, and ours if not."""
    if importlib.util.find_spec("ts") is None:
        sys.path.append(str(Path(ts_shim.__file__).parent))


def _enter(handler: str, context: Any) -> Entry:  # noqa: ANN401
    """The function or method that answers, after it was initialized as TorchServe does.

    Raises:
        InvalidModel: there is none.
    """
    source, _, function = handler.partition(":")
    module = _module_of(source.rpartition("/")[2].removesuffix(".py"))
    entry: Entry | None = getattr(module, function or "handle", None)
    if entry is not None:
        entry(None, context)  # a function is asked with no requests first, to initialize itself
        return entry
    classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    if len(classes) != 1 or not hasattr(classes[0], "handle"):
        names = ", ".join(one.__name__ for one in classes) or "no class"
        raise InvalidModel(
            f"handler {handler!r} must have a function 'handle', or one class with such a method; it has {names}",
            hint="name the function: torch-model-archiver --handler file.py:function",
        )
    service = classes[0]()
    service.initialize(context)
    answers: Entry = service.handle
    return answers


def _module_of(name: str) -> ModuleType:
    """The archive's own module, or one of TorchServe's handlers.

    Raises:
        Unsupported: it is neither.
    """
    own = f"ts.torch_handler.{name}"
    if importlib.util.find_spec(name) is not None:
        return importlib.import_module(name)
    if importlib.util.find_spec(own) is not None:
        return importlib.import_module(own)
    raise Unsupported(
        f"handler {name!r} is neither in the archive nor one that is built in (base_handler, image_classifier)",
        hint="pip install torchserve in the environment of execution.python: it brings TorchServe's other handlers",
    )


def told(problem: Exception) -> TaxiwayError:
    """What went wrong in a handler, for the request that it concerns."""
    if isinstance(problem, TaxiwayError):
        return problem
    return ModelFailed(f"the handler raised {type(problem).__name__}: {problem}")
