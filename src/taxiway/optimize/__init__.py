"""A model made faster and smaller under a promise: a metric falls by no more than was allowed, proven on unseen data.

In: an ONNX file or a registered version, data (with labels or without), a metric and the largest drop.
Out: `optimize(wanted)`: a Report of every candidate with its speed, size and verdict; variants, registered or written.
Never: writing over its input, believing a quantizer, judging a recipe on data that it was made or chosen with.
Read: outcome.py and walk.py, then recipes.py and shelf.py, then searching.py, promise.py and repair.py.
"""
