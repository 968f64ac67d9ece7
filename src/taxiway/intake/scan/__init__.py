"""Looks at every file of a foreign model and refuses what nobody can vouch for.

In: the staged copy, what is trusted, limits.
Out: findings, or a refusal that names file, rule and next step.
Never: believing a scanner that says that a pickle is harmless: only `--trust` lets one pass.
Read: walk.py, content.py, pickles.py.
"""
