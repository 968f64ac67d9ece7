"""The names of everything that is measured or logged, and how it is written down.

In: plain numbers that others counted, events that others tell.
Out: the catalogue of metric families, Histogram, `render_metrics`, HostSampler, structured logs.
Never: deciding anything, counting on anybody's behalf, keeping a thread or a timer.
Read: catalogue.py first, then histogram.py and render.py; logs.py stands alone.
"""
