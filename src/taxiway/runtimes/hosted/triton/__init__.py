"""What a Triton `model.py` finds under the name `triton_python_backend_utils`, and what stands behind it.

In: requests as they lie in shared memory, and whatever the model does with them.
Out: the names that Triton's own module has, with its behaviour and its words.
Never: anything of the data plane; an array copied that could be looked at where it lies.
Read: pb_utils.py (all names), session.py (what all of them share), senders.py (how answers leave).
"""
