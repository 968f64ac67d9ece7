"""The table of formats: one small module each, which recognises by content and understands without the framework.

In: the staged copy.
Out: what each model in it is, and the files that its version is made of.
Never: importing a framework, running or unpickling anything, raising for a file that is merely of another format.
Read: table.py, then onnx.py.
"""
