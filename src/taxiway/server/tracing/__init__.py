"""Traces of single requests: which are traced, what is noted of each, where it is written.

In: requests at the entrance, the times of runs.
Out: TraceGates (what edges and models ask), Triton's trace files, spans.
Never: a wait on the event loop; anything at all done for a request while nothing is traced.
Read: plan.py (what is wanted), trace.py (one request), gates.py (the switch), files.py.
"""
