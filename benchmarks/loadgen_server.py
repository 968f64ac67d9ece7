"""MLPerf's own LoadGen against an HTTP server, in its Server scenario; runs in the environment of mlcommons-loadgen.

    .cache/loadgen/bin/python benchmarks/loadgen_server.py PORT RATE SECONDS THREADS

LoadGen calls us when a query is due; a pool of threads, each with a connection of its own, sends it and reports back.
LoadGen's latencies run from when a query was scheduled. Printed: its summary's percentiles in milliseconds, as JSON.
"""

from __future__ import annotations

import json
import queue
import re
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg  # type: ignore[import-not-found]

REQUEST = b"POST /v2/models/any/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


def work(port: int, due: queue.SimpleQueue[Any]) -> None:
    """Send one query after the other, until there are no more."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (sample := due.get()) is not None:
            line.sendall(REQUEST)
            receive(line)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])


def receive(line: socket.socket) -> None:
    """One whole answer, by its Content-Length."""
    data = b""
    while (head := data.find(b"\r\n\r\n")) < 0:
        data += line.recv(65536)
    length = int(re.search(rb"content-length: *(\d+)", data[:head].lower())[1])  # type: ignore[index]
    while len(data) < head + 4 + length:
        data += line.recv(65536)


def main() -> int:
    """Run it and print the percentiles."""
    port, rate, seconds, threads = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    due: queue.SimpleQueue[Any] = queue.SimpleQueue()
    pool = [threading.Thread(target=work, args=(port, due)) for _ in range(threads)]
    for thread in pool:
        thread.start()
    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    settings.server_target_qps = rate
    settings.server_target_latency_ns = 1_000_000_000
    settings.min_duration_ms = int(seconds * 1000)
    settings.min_query_count = int(rate * seconds)

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            due.put(sample)

    sut = lg.ConstructSUT(issue, lambda: None)
    library = lg.ConstructQSL(1024, 1024, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = lg.LogSettings()
        logs.log_output = output
        lg.StartTestWithLogSettings(sut, library, settings, logs)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
    for _ in pool:
        due.put(None)
    for thread in pool:
        thread.join()
    lg.DestroyQSL(library)
    lg.DestroySUT(sut)
    found = {
        percent: int(ns) / 1e6 for percent, ns in re.findall(r"([\d.]+) percentile latency \(ns\) *: (\d+)", summary)
    }
    print(json.dumps({"p50_ms": found["50.00"], "p90_ms": found["90.00"], "p99_ms": found["99.00"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
