"""ONNX graphs: brought to a form that quantizers take, described by classes of nodes.

In: a model.
Out: `prepare(...)`: the same model with fewer operators, later opset, named nodes; `node_classes(...)`.
Never: keeping a change after which the model answers otherwise.
Read: preparing.py, then folding.py, then classes.py.
"""
