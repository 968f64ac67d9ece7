"""Pure mathematics: what is learnt from numbers, each method with its paper.

In: numbers, passed in by the rooms above.
Out: LatencyCurve (how long a batch takes).
Never: input or output, clocks, the nouns of serving.
Read: latency.py.
"""
