"""Tells MLflow what is known of versions in service, where somebody wants it there.

In: drift reports.
Out: metrics of a run for each version, in batches.
Never: a wait for MLflow, whatever it does; more in memory than was allowed.
Read: metrics.py, then exporter.py.
"""
