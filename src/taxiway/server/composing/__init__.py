"""Graphs of models: the steps of an ensemble, run as soon as their inputs are there.

In: requests for an ensemble; the models that it asks, through `InnerCaller`.
Out: their answers, one or in parts; tensors go from step to step as they lie in memory.
Never: running models, queues of its own, knowing which versions are loaded.
Read: plan.py (what is wanted), walk.py (one request's way through it, pure), front.py (the shell).
"""
