"""Drift and quality of versions in service, from rows that were sampled of them.

In: sampled rows, references, labels.
Out: evidence with a promise, sizes of changes, who changed since when, accuracy with and without labels.
Never: an alarm from the size of a change alone.
Read: columns.py and reference.py, then watch.py, then desk.py.
"""
