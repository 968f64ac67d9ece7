"""What the console is served: its pages, one event stream, what was, and what is known of models.

In: metrics once a second, the journal, the registry, requests of browsers.
Out: frames of the stream, JSON, the files of the wheel.
Never: a wait of rollouts or of the data plane for somebody who looks.
Read: feed.py and frames.py, then streams.py, then pages.py.
"""
