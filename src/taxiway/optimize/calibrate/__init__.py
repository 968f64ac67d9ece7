"""What values a model's tensors take on representative data: one pass, bounded memory, padding left out.

In: a model and inputs of one run each, whose shapes may differ.
Out: a Histogram of every float tensor, the same however the inputs were batched; ranges made of them.
Never: keeping the values themselves.
Read: histogram.py, then collecting.py, then ranges.py.
"""
