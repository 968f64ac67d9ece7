"""The process that asks picklescan and fickling (opinions.py starts it). Reads JSON, writes a line for each pickle."""

from __future__ import annotations

import io
import json
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Answer = tuple[str, str, str]
"""Scanner, verdict, and what it saw."""

_MAX_SAID = 200


def main() -> None:
    """Answer what stands in the standard input."""
    asked = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (asked["memory_bytes"], asked["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu_s"], asked["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    out, sys.stdout = sys.stdout, io.StringIO()  # whatever a scanner prints is not an answer
    for one in asked["pickles"]:
        with Path(one["path"]).open("rb") as file:
            file.seek(one["offset"])
            data = file.read(one["max_bytes"] + 1)
        whole = len(data) <= one["max_bytes"]
        answers = [
            _guarded("picklescan", _picklescan, data) if whole else ("picklescan", "failed", "it is too large"),
            _guarded("fickling", _fickling, data) if whole else ("fickling", "failed", "it is too large"),
        ]
        out.write(json.dumps(answers) + "\n")
        out.flush()


def _guarded(scanner: str, ask: Callable[[bytes], Answer], data: bytes) -> Answer:
    try:
        return ask(data)
    except BaseException as problem:  # noqa: BLE001 - a scanner that stumbles has failed, whatever it stumbled on
        return scanner, "failed", f"{type(problem).__name__}: {problem}"[:_MAX_SAID]


def _picklescan(data: bytes) -> Answer:
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes  # noqa: PLC0415 - imported where it is contained

    found: Any = scan_pickle_bytes(io.BytesIO(data), "model")
    dangerous = sorted(f"{one.module}.{one.name}" for one in found.globals if one.safety is SafetyLevel.Dangerous)
    if dangerous:
        return "picklescan", "dangerous", ", ".join(dangerous)[:_MAX_SAID]
    if found.scan_err:
        return "picklescan", "failed", "it could not read it to the end"
    return "picklescan", "suspicious" if found.suspicious_count else "harmless", ""


def _fickling(data: bytes) -> Answer:
    from fickling.analysis import Analysis, Analyzer, Severity  # noqa: PLC0415 - imported where it is contained
    from fickling.fickle import Pickled  # noqa: PLC0415
    from fickling.ml import MLAllowlist  # noqa: PLC0415

    analyzer: Any = Analyzer([*Analysis.ALL, MLAllowlist()])
    stream = io.BytesIO(data)
    results: list[Any] = [analyzer.analyze(Pickled.load(stream))]
    trailing = ""
    while stream.tell() < len(data) and not trailing:  # one pickle after the other, as in torch's old files
        try:
            results.append(analyzer.analyze(Pickled.load(stream)))
        except Exception as problem:  # noqa: BLE001 - numbers may follow; they may also be made to look like that
            trailing = f"what follows the last pickle: {problem}"[:_MAX_SAID]
    worst = max(result.severity for result in results)
    triggers = sorted({str(one.trigger) for result in results for one in result.results if one.trigger})
    if worst >= Severity.LIKELY_UNSAFE:
        return "fickling", "dangerous", ", ".join(triggers)[:_MAX_SAID]
    if trailing:
        return "fickling", "failed", trailing
    return "fickling", "harmless" if worst == Severity.LIKELY_SAFE else "suspicious", ", ".join(triggers)[:_MAX_SAID]


if __name__ == "__main__":
    main()
