"""TorchServe's package as its handlers see it; its folders are namespaces, as handlers need no more of them.

In: a handler's imports.
Out: the names that TorchServe documents, with its own spelling and signatures.
Never: anything of taxiway: it is imported as `ts`, from wherever a handler runs.
Read: context.py, torch_handler/base_handler.py.
"""

__version__ = "0.12.0"
"""The release whose behaviour this is."""
