"""The one list of log fields: what an event may say about itself. mypy checks every call against it.

A field holds a number, a truth or a short text. There is no field for a tensor's content, and there shall be
none.
"""

from __future__ import annotations

from typing import Annotated, TypedDict, get_args, get_type_hints


class LogFields(TypedDict, total=False):
    """Every field. `ts`, `level`, `event`, `logger` and `suppressed` are the writer's own."""

    model: Annotated[str, "name of the model"]
    version: Annotated[str, "version of the model"]
    request_id: Annotated[str, "the caller's id of the request"]
    trace_id: Annotated[str, "trace that a request belongs to, as W3C Trace Context names it"]
    state: Annotated[str, "state that was entered"]
    reason: Annotated[str, "why, as one sentence or one word"]
    hint: Annotated[str, "the next step for whoever reads this"]
    code: Annotated[str, "code of an error, as in docs/errors.md"]
    error: Annotated[BaseException, "the exception: its type, message, code and, if it is a defect, its frames"]
    count: Annotated[int, "how many"]
    limit: Annotated[int, "the limit that was met"]
    requests: Annotated[int, "requests that were taken and are not answered yet"]
    models: Annotated[int, "how many models are served"]
    delay_s: Annotated[float, "for how many seconds everything is yet served as before"]
    timeout_s: Annotated[float, "for how many seconds at most what was taken is waited for"]
    rows: Annotated[int, "rows of a batch"]
    nbytes: Annotated[int, "a size in bytes"]
    duration_ms: Annotated[float, "how long it took, in milliseconds"]
    method: Annotated[str, "HTTP method, or gRPC"]
    path: Annotated[str, "path of a request or of a file"]
    status: Annotated[int, "HTTP status, or the number of a gRPC status"]
    peer: Annotated[str, "address of the other side"]
    caller: Annotated[str, "name of the caller's API key, or of its client certificate"]
    bytes_in: Annotated[int, "bytes of a request's body, as it came"]
    bytes_out: Annotated[int, "bytes of an answer, its head included"]
    address: Annotated[str, "address of ours: host:port or a socket's path"]
    grpc: Annotated[str, "address of ours for gRPC; off: there is none"]
    pid: Annotated[int, "process id"]
    worker: Annotated[
        int, "which of the server's data-plane processes, from 0; in all lines of theirs if there are several"
    ]
    signal: Annotated[str, "name of a signal"]
    setting: Annotated[str, "key of a setting"]
    backend: Annotated[str, "name of a runtime"]
    thread: Annotated[str, "name of a thread"]
    instance: Annotated[int, "which of a version's model processes, from 0"]
    line: Annotated[str, "a line that a model's own code printed or logged"]
    metric: Annotated[str, "name of a metric"]


def describe_fields() -> dict[str, tuple[str, str]]:
    """Each field's type and meaning, in the list's order."""
    described = {}
    for name, annotation in get_type_hints(LogFields, include_extras=True).items():
        kind, meaning = get_args(annotation)
        described[name] = (kind.__name__, meaning)
    return described
