"""A process of its own that makes candidates and tries them: a crash, a hang, a flood of memory costs one candidate.

In: orders, one JSON object a line; models and samples as files.
Out: answers likewise; candidates and scores as files.
Never: ending because an order could not be done.
Read: orders.py, then client.py, then bench.py, then trying.py.
"""
