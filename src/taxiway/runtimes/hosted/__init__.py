"""What runs inside a model process: one model of any framework, whose crash is nobody else's.

In: frames over a socket, tensors in shared memory.
Out: answers the same way.
Never: the event loop, HTTP, queues; an import of anything but numpy, msgspec, `core` and the model's own framework.
Read: frames.py (what is said), arena.py (where tensors lie), host.py (the loop), guest.py (what a framework is).
"""
