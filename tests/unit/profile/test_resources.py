"""Who listens, and what a process and everything below it burn."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from taxiway.profile.resources import ProcessSampler, listener_of


def test_we_are_found_by_our_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listener_of("127.0.0.1", listener.getsockname()[1]) == os.getpid()


def test_nobody_listens_elsewhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert listener_of("127.0.0.1", port) is None
    assert listener_of("example.com", port) is None


def test_our_own_work_is_seen() -> None:
    sampler = ProcessSampler(os.getpid())
    before = os.times()
    while (now := os.times()).user - before.user + now.system - before.system < 0.05:
        pass
    sampler.sample()
    usage = sampler.usage()
    assert usage is not None
    assert usage.cpus > 0
    assert usage.peak_bytes > 1 << 20


def test_a_process_that_is_gone_has_no_usage(tmp_path: Path) -> None:
    sampler = ProcessSampler(1, proc=tmp_path)
    sampler.sample()
    assert sampler.usage() is None
