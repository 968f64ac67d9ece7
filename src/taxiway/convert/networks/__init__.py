"""Networks of torch, Hugging Face and Keras to ONNX: both of torch's exporters tried, the faster valid graph kept.

In: an exported program, TorchScript, `module:function`, a Hugging Face directory or a .keras file, and examples.
Out: the same verdicts as for tables: an artifact that answered every case as torch does, or why there is none.
Never: being imported where torch is not; unpickling what nobody trusted; believing that a graph is faster unmeasured.
Read: network.py, then attempts.py, proof.py and exporters.py.
"""
