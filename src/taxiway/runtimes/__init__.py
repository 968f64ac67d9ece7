"""Run one version of a model: the only rooms that know a framework.

In: a file and its options (execution providers, threads).
Out: a `LoadedModel` that turns input arrays into output arrays, from any thread.
Never: queues, HTTP, versions.
Read: onnx.py.
"""
