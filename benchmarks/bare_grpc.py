"""The least a server of grpc.aio can do for a model: parse the request, call ONNX Runtime once, answer.

Messages are tritonclient's generated ones. The handler is registered by name of its service, as older generated code
did: what newer code does (a registration per method) costs grpc.aio more for every call. No checks, no batching, no
metrics, one model.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import onnxruntime
import uvloop
from tritonclient.grpc import service_pb2

SERVICE = "inference.GRPCInferenceService"


class Servicer:
    """Answers ModelInfer for a model with one input and one output, both FP32."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._output = self._session.get_outputs()[0].name

    async def infer(self, request: Any, _context: Any) -> Any:  # noqa: ANN401 - generated classes have no types
        """Answer one call."""
        entry = request.inputs[0]
        values = np.frombuffer(request.raw_input_contents[0], dtype=np.float32).reshape(entry.shape)
        (result,) = self._session.run([self._output], {entry.name: values})
        answer = service_pb2.ModelInferResponse(
            model_name=request.model_name, model_version="1", raw_output_contents=[result.tobytes()]
        )
        answer.outputs.add(name=self._output, datatype="FP32", shape=result.shape)
        return answer


async def serve(port: int, path: Path) -> None:
    """Serve until the process is told to end."""
    servicer = Servicer(path)
    handler = grpc.unary_unary_rpc_method_handler(
        servicer.infer, service_pb2.ModelInferRequest.FromString, service_pb2.ModelInferResponse.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": handler})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one ONNX file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_grpc", description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(arguments)
    uvloop.run(serve(options.port, options.model))
    return 0


if __name__ == "__main__":
    sys.exit(main())
