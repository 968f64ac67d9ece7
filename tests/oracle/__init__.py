"""The same requests to a real Triton and to taxiway; what differs is declared in `deviations.toml`, or fails.

In: small ONNX models written once and served by both, requests that Hypothesis invents, declared deviations.
Out: a count of the answers compared, and a reproducible dump of each undeclared difference.
Never: gRPC, sequences, decoupled models, repository changes; those have suites of their own.
"""
