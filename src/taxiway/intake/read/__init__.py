"""Bounded readers of foreign bytes: protobuf, UBJSON, FlatBuffers, pickles' opcodes, headers of weights, documents.

In: bytes, the name to call them by, limits.
Out: what they say, as plain data, or a refusal that names the rule.
Never: believing a length or a count that was not checked, building what the bytes ask for, importing a framework.
Read: protobuf.py, then onnx.py.
"""
