"""What a TorchServe handler imports as `ts`, where TorchServe's own package is not installed.

In: `import ts...` in a handler.
Out: the classes that TorchServe documents for handlers, written anew from its documentation and behaviour.
Never: a server, a socket; torch, but in the modules of `ts.torch_handler`.
Read: ts/context.py (what a handler is given), ts/torch_handler/base_handler.py (what most handlers derive from).
"""
