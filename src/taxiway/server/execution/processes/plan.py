"""What is wanted of the processes of one model version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

_S = 1_000_000_000


class Labels(TypedDict):
    """Whose lines they are, in the log."""

    model: str
    version: str


@dataclass(frozen=True, slots=True)
class RespawnPlan:
    """When a process that died is started again, and when its model is given up for a while.

    Attributes:
        crashes: as many deaths of one process within `window_ns` of being ready break it; a version all of whose
            processes are broken is not ready.
        first_rest_ns: how long to wait after the second death; nothing after the first, and twice as long each time.
        longest_rest_ns: and never longer than this.
        broken_rest_ns: how long a broken one rests before it is tried again.
    """

    crashes: int = 5
    window_ns: int = 60 * _S
    first_rest_ns: int = _S // 10
    longest_rest_ns: int = 5 * _S
    broken_rest_ns: int = 30 * _S

    def rest_ns(self, deaths: int) -> int:
        """How long to wait before the next start, after so many deaths within the window."""
        if deaths >= self.crashes:
            return self.broken_rest_ns
        if deaths <= 1:
            return 0
        return min(self.first_rest_ns << min(deaths - 2, 32), self.longest_rest_ns)


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How the processes of one version are started.

    Attributes:
        backend: whose model it is (config/backends.py).
        directory: the model's; file: the version's file or directory.
        config: the configuration as Triton's JSON.
        parameters: the configuration's, for the model.
        python: the interpreter; another environment's may be named.
        arena_bytes: shared memory of each direction, at most.
        memory_bytes: private memory of each process, at most; 0 for no limit.
        cpus: processors that each may use, by instance; empty for all.
        threads: what a framework's own thread pools are told to have.
        trusted: SHA-256 digests of the pickles that may be loaded.
        load_timeout_s: how long loading may take.
    """

    backend: str
    name: str
    version: int
    directory: Path
    file: Path
    config: str
    parameters: Mapping[str, str]
    python: str
    instances: int = 1
    arena_bytes: int = 4 << 30
    memory_bytes: int = 0
    cpus: tuple[tuple[int, ...], ...] = ()
    threads: int = 1
    trusted: tuple[str, ...] = ()
    load_timeout_s: float = 300.0
    compat: str = "strict"
    """`triton` has errors tell where in the model's code they arose, as Triton does."""
    kinds: tuple[tuple[str, int], ...] = ()
    """KIND and device of each instance."""
    respawn: RespawnPlan = field(default_factory=RespawnPlan)

    @property
    def labels(self) -> Labels:
        """For the log."""
        return {"model": self.name, "version": str(self.version)}
