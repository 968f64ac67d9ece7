"""What can be measured: servers of several protocols, and models for which a server is started.

In: a word on the command line; a workload, or none.
Out: a `Target`: rendered requests, the door they go to, and what the server tells of itself.
Never: sending load itself, leaving a server behind that it started.
Read: target.py, then finding.py and oip_http.py.
"""
