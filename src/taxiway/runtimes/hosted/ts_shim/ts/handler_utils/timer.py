"""Measuring the steps of a handler."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a handler that adds how long it took to the handler's metrics."""

    @functools.wraps(function)
    def measured(self: Any, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any method
        started = time.perf_counter()
        answer = function(self, *arguments, **named)
        metrics = getattr(getattr(self, "context", None), "metrics", None)
        if metrics is not None:
            metrics.add_time(f"ts_handler_{function.__name__}", (time.perf_counter() - started) * 1000, None, "ms")
        return answer

    return measured
