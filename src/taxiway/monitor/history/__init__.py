"""What metrics were: rings of seconds in memory, rollups on the disk; what the console draws.

In: the metrics of all processes, once a second.
Out: columns over time, counts by latency, sums over the windows of budgets.
Never: a mean of quantiles.
Read: rows.py, then differences.py, then desk.py.
"""
