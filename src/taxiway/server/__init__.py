"""The data plane: from bytes on a socket to an answer, through admission, routing, batching and execution.

In: requests over HTTP; models on disk.
Out: answers, metrics, statistics.
Never: the registry, a rollout's decisions, the console.
Read: app.py, then wire/http1.py, wire/oip.py, batching/loop.py, execution/runner.py.
"""
