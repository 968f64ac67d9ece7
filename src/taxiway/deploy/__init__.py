"""Targets that carry out instructions: which processes there are, where, and that they stay.

In: settings; what became of a process.
Out: `Supervisor`, which starts, restarts and stops every process of one server on this machine.
Never: deciding who gets traffic, running a model, importing a framework.
Read: local/plan.py, then local/machine.py and local/supervisor.py.
"""
