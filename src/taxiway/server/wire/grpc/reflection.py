"""Server reflection: which services, files and symbols there are, from the private pool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from taxiway.config.model_config import POOL
from taxiway.server.wire.grpc.calls import EOF, Calls, Context, parse
from taxiway.server.wire.grpc.protos import Message, MessageClass, message_class, request_class

_METHOD = "ServerReflectionInfo"
_NOT_FOUND: int = grpc.StatusCode.NOT_FOUND.value[0]
_UNIMPLEMENTED: int = grpc.StatusCode.UNIMPLEMENTED.value[0]


class ReflectionService:
    """Answers one version of the protocol; they differ in nothing but their package."""

    def __init__(self, service: str, services: tuple[str, ...], calls: Calls) -> None:
        package = service.rpartition(".")[0]
        self._request: MessageClass = request_class(service, _METHOD)
        self._response: MessageClass = message_class(f"{package}.ServerReflectionResponse")
        self._services = services
        self._calls = calls

    async def info(self, _: object, context: Context) -> None:
        """Answer questions until the client has no more."""
        try:
            while (body := await context.read()) is not EOF:
                await context.write(self.answer(parse(self._request, body)).SerializeToString())
        except asyncio.CancelledError:
            self._calls.statistics.ended(_METHOD, "CANCELLED")
            raise
        except Exception as problem:  # noqa: BLE001 - the boundary: every call ends with a status
            await self._calls.fail(context, _METHOD, problem)
        self._calls.statistics.ended(_METHOD, "OK")

    def answer(self, question: Message) -> Message:
        """The answer to one question; an error is an answer too."""
        response = self._response(valid_host=question.host, original_request=question)
        kind = question.WhichOneof("message_request")
        if kind == "list_services":
            for name in self._services:
                response.list_services_response.service.add(name=name)
        elif kind == "file_by_filename":
            self._put_file(response, _file_named(question.file_by_filename), question.file_by_filename)
        elif kind == "file_containing_symbol":
            self._put_file(response, _file_with(question.file_containing_symbol), question.file_containing_symbol)
        elif kind in ("file_containing_extension", "all_extension_numbers_of_type"):
            _put_error(response, _NOT_FOUND, "no message here has extensions")
        else:
            _put_error(response, _UNIMPLEMENTED, "the question is of no known kind")
        return response

    def _put_file(self, response: Message, file: FileDescriptor | None, asked: str) -> None:
        if file is None:
            _put_error(response, _NOT_FOUND, f"'{asked[:200]}' is not here")
            return
        files = dict.fromkeys(_with_imports(file))
        response.file_descriptor_response.file_descriptor_proto.extend(_serialized(one) for one in files)


def _put_error(response: Message, code: int, text: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = text


def _file_named(name: str) -> FileDescriptor | None:
    try:
        return POOL.FindFileByName(name)
    except KeyError:
        return None


def _file_with(symbol: str) -> FileDescriptor | None:
    """The file of a service, message, enum, field or, which the pool does not look for, method."""
    try:
        return POOL.FindFileContainingSymbol(symbol)
    except KeyError:
        pass
    owner, _, method = symbol.rpartition(".")
    try:
        service = POOL.FindServiceByName(owner)
    except KeyError:
        return None
    return service.file if method in service.methods_by_name else None


def _with_imports(file: FileDescriptor) -> Iterator[FileDescriptor]:
    yield file
    for imported in file.dependencies:
        yield from _with_imports(imported)


def _serialized(file: FileDescriptor) -> bytes:
    proto: Any = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(proto)
    return bytes(proto.SerializeToString())
