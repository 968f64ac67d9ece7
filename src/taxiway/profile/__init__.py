"""Measures a target: open-loop load, latency from the intended start, and what may be believed of it.

In: a target (a URL, a registered version, a file), a plan of arrivals, a workload.
Out: a `Profile`: histograms, percentiles with an interval, what the server tells, and whether all that is valid.
Never: averages without percentiles, a schedule that waits for the server, numbers of a generator that was late.
Read: arrivals.py and workload.py; plan.py and outcome.py, then running.py, judging.py and generating/pump.py.
"""
