"""The versions that are served: their state, and everything one of them is made of.

In: model files and configurations.
Out: `ServedModel`, loaded, measured and warm; `ModelManager`, which loads and closes them.
Never: requests, HTTP, registry.
Read: machine.py, served.py, loading.py, manager.py.
"""
