"""Takes a foreign model in: recognises, scans, understands, verifies and hashes it, and registers a version.

In: a path (or whatever the table of sources can bring to one), what is trusted, a registry.
Out: a registered version and a report of what was understood, or a refusal that names file, rule and next step.
Never: running anything of a model, believing a name instead of the bytes, looking twice at what can change between.
Read: walk.py, then formats/__init__.py and scan/__init__.py.
"""
