"""Candidates from recipes.

In: the prepared model, a recipe, what calibration found.
Out: `make(...)`: a file.
Never: saying that it is any good; whoever asked loads and compares it.
Read: making.py, then static.py, then float8.py.
"""
