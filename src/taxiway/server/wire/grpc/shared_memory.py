"""Shared memory over gRPC: registering regions, and asking what is registered."""

from __future__ import annotations

from collections.abc import Iterator

from taxiway.core.errors import InvalidArgument, NotFound
from taxiway.server.administration import Administration
from taxiway.server.shared_memory import refuse_cuda
from taxiway.server.wire.grpc.protos import Message, message_class
from taxiway.server.wire.grpc.unary import Method, always

_Status = message_class("inference.SystemSharedMemoryStatusResponse")
_Registered = message_class("inference.SystemSharedMemoryRegisterResponse")
_Unregistered = message_class("inference.SystemSharedMemoryUnregisterResponse")
_CudaStatus = message_class("inference.CudaSharedMemoryStatusResponse")
_CudaUnregistered = message_class("inference.CudaSharedMemoryUnregisterResponse")


class SharedMemoryService:
    """The system and CUDA shared memory extensions; of CUDA nothing is ever registered."""

    def __init__(self, administration: Administration) -> None:
        self._administration = administration

    def methods(self) -> Iterator[Method]:
        """All of it, with what each needs."""
        yield Method("SystemSharedMemoryStatus", self._status, always("read"))
        yield Method("SystemSharedMemoryRegister", self._register, always("admin"))
        yield Method("SystemSharedMemoryUnregister", self._unregister, always("admin"))
        yield Method("CudaSharedMemoryStatus", self._cuda_status, always("read"))
        yield Method("CudaSharedMemoryRegister", self._cuda_register, always("admin"))
        yield Method("CudaSharedMemoryUnregister", self._cuda_unregister, always("admin"))

    def _status(self, message: Message) -> Message:
        told = _Status()
        for region in self._administration.regions(message.name or None):
            entry = told.regions[region["name"]]
            entry.name, entry.key = region["name"], region["key"]
            entry.offset, entry.byte_size = region["offset"], region["byte_size"]
        return told

    async def _register(self, message: Message) -> Message:
        if not message.name:
            raise InvalidArgument(
                "'region name' is necessary to register system shared memory region", hint="give it a name"
            )
        await self._administration.register_region(message.name, message.key, message.offset, message.byte_size)
        return _Registered()

    async def _unregister(self, message: Message) -> Message:
        await self._administration.unregister_region(message.name or None)
        return _Unregistered()

    def _cuda_status(self, message: Message) -> Message:
        self._administration.regions(None)  # says that all of it is off, if it is
        if message.name:
            raise NotFound(f"Unable to find cuda shared memory region: '{message.name}'")
        return _CudaStatus()

    def _cuda_register(self, message: Message) -> Message:
        self._administration.regions(None)
        refuse_cuda(message.name)

    def _cuda_unregister(self, _: Message) -> Message:
        self._administration.regions(None)
        return _CudaUnregistered()
