"""What is wanted of the processes of one server: how many, how patient, and what each may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taxiway.config.settings import Settings

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How many workers there are, and when the server gives one up.

    Attributes:
        workers: data-plane processes.
        crashes: as many of one worker within `window_ns` end the server.
        first_rest_ns: how long a worker rests after its first crash; twice as long after each further one.
        longest_rest_ns: and never longer than this.
        longest_wait_ns: the same of one that could not start: what keeps it from that may last for hours.
        drain_ns: how long a worker may take to end, counted from the end of its delay.
    """

    workers: int
    drain_ns: int
    crashes: int = 5
    window_ns: int = 60 * _S
    first_rest_ns: int = _S // 10
    longest_rest_ns: int = 5 * _S
    longest_wait_ns: int = 30 * _S

    def rest_ns(self, crashes: int) -> int:
        """How long to wait before a worker that crashed `crashes` times lately is started again."""
        return min(self._doubled_ns(crashes), self.longest_rest_ns)

    def wait_ns(self, failures: int) -> int:
        """How long to wait before one that could not start, `failures` times in a row, is started again."""
        return min(self._doubled_ns(failures), self.longest_wait_ns)

    def _doubled_ns(self, times: int) -> int:
        doubled: int = self.first_rest_ns << min(times - 1, 32)
        return doubled


_GOODBYE_S = 5
"""Beyond limits.drain_timeout_s: what a worker gets for its last words before it is killed."""


def plan_of(settings: Settings) -> Plan:
    """The plan that the settings ask for."""
    drain_ns = round((settings.limits.drain_timeout_s + _GOODBYE_S) * _S)
    return Plan(workers=settings.workers, drain_ns=drain_ns)


_DIVIDED_QUEUE = ("max_requests", "max_rows", "max_bytes")


def share_of(settings: Settings, workers: int) -> Settings:
    """The settings of one of `workers` processes: what bounds the whole server is divided among them.

    Every share is at least 1, and holds at least one body of allowed size. What one connection or request may be is
    no one's share: it stays.
    """
    if workers == 1:
        return settings
    data = settings.model_dump(exclude_unset=True)
    body = settings.limits.max_body_bytes
    _set(data, "limits", "max_requests", _share(settings.limits.max_requests, workers))
    _set(data, "limits", "max_connections", _share(settings.limits.max_connections, workers))
    _set(data, "limits", "max_buffered_bytes", max(body, _share(settings.limits.max_buffered_bytes, workers)))
    _set(data, "cache", "max_bytes", settings.cache.max_bytes // workers)
    if settings.models.memory_bytes:  # 0 sets no bound, which no share may become
        _set(data, "models", "memory_bytes", _share(settings.models.memory_bytes, workers))
    _set(data, "models", "cold_requests", _share(settings.models.cold_requests, workers))
    for key in _DIVIDED_QUEUE[:2]:
        _set(data, "queue", key, _share(getattr(settings.queue, key), workers))
    _set(data, "queue", "max_bytes", max(body, _share(settings.queue.max_bytes, workers)))
    for override in data["models"].get("overrides", {}).values():
        queue = override.get("queue", {})
        queue |= {key: _share(value, workers) for key, value in queue.items() if key in _DIVIDED_QUEUE}
        if "max_bytes" in queue:
            queue["max_bytes"] = max(body, queue["max_bytes"])
    return Settings.model_validate(data)


def cpus_of(cpus: int, workers: int) -> int:
    """Processors of one of `workers` processes on a machine that grants `cpus`."""
    return max(1, cpus // workers)


def _share(whole: int, workers: int) -> int:
    return max(1, whole // workers)


def _set(data: dict[str, Any], section: str, key: str, value: int) -> None:
    data.setdefault(section, {})[key] = value
