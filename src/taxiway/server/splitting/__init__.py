"""Which version of a service answers a request, by weights, sticky units and headers; and what becomes of each.

In: the traffic that is wanted, the versions that are served, requests that name no version.
Out: an arm for each request, counts by arm and segment, blown fuses, recorded answers.
Never: deciding about weights, but for the fuses; waiting for anybody.
Read: split.py, then arm.py and fuse.py.
"""
