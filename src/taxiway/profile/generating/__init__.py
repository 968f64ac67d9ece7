"""The generator's processes: each sends its share of a schedule on one event loop, and writes down what became of it.

In: a `Job` on standard input: whole requests as bytes, and when each is due.
Out: `Samples` on standard output, a row for each request.
Never: rendering a request while it is due, waiting for one answer before the next request is sent, a thread.
Read: job.py, then pump.py and http1.py.
"""
