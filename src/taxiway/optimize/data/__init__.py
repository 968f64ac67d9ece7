"""Representative data: read, checked against the model, split so that nothing is judged on what it was made with.

In: an `.npz`, a directory of them, or a function of the user's.
Out: Samples for calibration, choice and proof, without a sample in common.
Never: unpickling, mending data silently.
Read: samples.py, then reading.py, then splitting.py.
"""
