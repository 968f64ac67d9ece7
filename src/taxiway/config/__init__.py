"""Typed settings and Triton's model configuration: read, merged, checked, explained; every problem at once.

In: defaults, a YAML file, the environment, flags; config.pbtxt and what a model file declares.
Out: Settings, ModelSpec, a table of flags; one InvalidConfig naming every problem with file and line.
Never: reading the environment anywhere else; starting or loading anything; protobuf for anybody else but the gRPC wire.
Read: settings.py for what can be set, loader.py for how it is merged, model_config.py then model_spec.py.
"""
