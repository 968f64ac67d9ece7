"""Requests and answers that are kept as Parquet, for whoever has a question about them later.

In: sampled rows; what is to be kept of them, and what must not be.
Out: files by model, version and day, written whole or not at all; answers in SQL.
Never: a redacted value on the disk, more bytes than were allowed, a request that waits.
Read: columns.py, then capture.py, then query.py.
"""
