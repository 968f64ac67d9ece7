"""The supervisor of one machine: one tree of processes, the only place that starts, restarts and stops one.

In: settings; exits, answers and signals.
Out: ready addresses, an `Outcome`.
Never: serving inference, deciding outside machine.py.
Read: plan.py (what is wanted), machine.py (pure), supervisor.py (the shell), process.py (one worker), relay.py.
"""
