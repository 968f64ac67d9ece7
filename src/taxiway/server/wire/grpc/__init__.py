"""The gRPC front door: the inference protocol, health and reflection, on one port.

In: calls over HTTP/2, which grpcio's core frames.
Out: `InferRequest` to the batcher; messages.
Never: what HTTP's front door checks too (signature.py and asks.py have that), generated code in the default pool.
Read: protos.py, front.py, calls.py, infer.py (with infer_requests.py, infer_answers.py, familiar.py), then services.py.
"""
