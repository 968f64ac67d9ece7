"""The nouns every room speaks: models, tensors, requests, deadlines, errors, the clock and the ports.

In: nothing; this is the lowest floor.
Out: ModelRef, TensorSpec, InferRequest, Deadline, TaxiwayError, Clock, the Protocols in `ports`.
Never: input or output, the web, a cluster, a framework.
Read: errors.py first, then tensors.py and requests.py.
"""
