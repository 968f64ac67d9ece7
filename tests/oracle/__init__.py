"""The same requests to a real Triton and to taxiway; what differs is declared in `deviations.toml`, or fails.

In: small ONNX models written once and served by both, requests and calls that Hypothesis invents, declared deviations.
Out: a count of the answers compared, and a reproducible dump of each undeclared difference.
Never: decoupled models; sequences but for one story (test_sequences.py).
"""
