"""What tests of every room share: an event loop in virtual time, and its clock.

In: a coroutine to run.
Out: VirtualTimeLoop, VirtualClock, run_virtual, DeadlockError.
Never: imported by the product itself; a wait in real time, unless a test says that it expects a thread.
Read: loop.py.
"""

from taxiway.testing.loop import DeadlockError, VirtualClock, VirtualTimeLoop, run_virtual

__all__ = ["DeadlockError", "VirtualClock", "VirtualTimeLoop", "run_virtual"]
