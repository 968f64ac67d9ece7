"""Pickles that run something, by every trick that is known to us."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.malicious.case import Case
from tests.support.malicious.making import (
    write,
)

from taxiway.core.errors import (
    UntrustedPickle,
)


def command(canary: Path) -> str:
    """What a shell would do."""
    return f"touch {canary}"


def code(canary: Path) -> str:
    """What Python would do."""
    return f"open({str(canary)!r}, 'w').close()"


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def text(value: str) -> bytes:
    """Opcodes that push a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def call(module: str, name: str, *arguments: str, stop: bytes = b".") -> bytes:
    """Opcodes of protocol 2 that call `module.name` with texts."""
    pushed = b"".join(text(argument) for argument in arguments)
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + b"(" + pushed + b"tR" + stop


def os_system(canary: Path) -> bytes:
    return pickle.dumps(Calls(os.system, command(canary)))


def old_protocol(canary: Path) -> bytes:
    """Protocol 0: all text."""
    return f"cos\nsystem\n(S'{command(canary)}'\ntR.".encode()


def builtins_eval(canary: Path) -> bytes:
    return call("builtins", "eval", code(canary))


def builtins_exec(canary: Path) -> bytes:
    return call("builtins", "exec", code(canary))


def subprocess_popen(canary: Path) -> bytes:
    return b"\x80\x02csubprocess\ncheck_call\n(]" + b"(" + text("touch") + text(str(canary)) + b"etR."


def functools_partial(canary: Path) -> bytes:
    """A partial is made of a harmless name, and called by another reduce."""
    partial = b"cfunctools\npartial\n(cos\nsystem\n" + text(command(canary)) + b"tR"
    return b"\x80\x02" + partial + b")R."


def importlib_import(canary: Path) -> bytes:
    """`importlib.import_module('os')`, then an attribute of what came back."""
    module = b"cimportlib\nimport_module\n(" + text("os") + b"tR"
    return b"\x80\x02cbuiltins\ngetattr\n(" + module + text("system") + b"tR(" + text(command(canary)) + b"tR."


def stack_global(canary: Path) -> bytes:
    """The names are texts on the stack, one of them fetched from the memo."""
    names = b"\x8c\x02os\x94\x8c\x06system\x94" + b"00" + b"h\x00h\x01\x93"
    return b"\x80\x04" + names + b"(" + text(command(canary)) + b"tR."


def computed_global(canary: Path) -> bytes:
    """The name is made while it is read, so that no text holds it."""
    joined = b"cbuiltins\ngetattr\n(" + text("") + text("join") + b"tR(]" + b"(" + text("sys") + text("tem") + b"etR"
    return b"\x80\x04" + text("os") + joined + b"\x93(" + text(command(canary)) + b"tR."


def dotted_global(canary: Path) -> bytes:
    """Protocol 4 takes a path of attributes: `shutil.os.system`."""
    return b"\x80\x04" + text("shutil") + text("os.system") + b"\x93(" + text(command(canary)) + b"tR."


def inst_opcode(canary: Path) -> bytes:
    """INST calls by itself, without REDUCE."""
    return f"(S'{command(canary)}'\nios\nsystem\n.".encode()


def obj_opcode(canary: Path) -> bytes:
    """OBJ likewise."""
    return b"\x80\x02(cos\nsystem\n" + text(command(canary)) + b"o."


def attrgetter(canary: Path) -> bytes:
    getter = b"coperator\nattrgetter\n(" + text("system") + b"tR"
    return (
        b"\x80\x02" + getter + b"(cimportlib\nimport_module\n(" + text("os") + b"tRtR(" + text(command(canary)) + b"tR."
    )


def methodcaller(canary: Path) -> bytes:
    caller = b"coperator\nmethodcaller\n(" + text("system") + text(command(canary)) + b"tR"
    return b"\x80\x02" + caller + b"(cimportlib\nimport_module\n(" + text("os") + b"tRtR."


def broken_after(canary: Path) -> bytes:
    """What cannot be read comes after what is run: a parser gives up, and `pickle.load` has run it already."""
    return call("os", "system", command(canary), stop=b"\xff\xfe\xfd")


def second_stream(canary: Path) -> bytes:
    """A harmless pickle first, as torch's old files begin."""
    return pickle.dumps({"weights": [1, 2]}) + os_system(canary)


def pip_main(canary: Path) -> bytes:
    return b"\x80\x02cpip\nmain\n(](" + text("install") + text(f"--log={canary}") + text("/nowhere") + b"etR."


def runpy_code(canary: Path) -> bytes:
    return call("runpy", "_run_code", code(canary), "{}")


def webbrowser_open(canary: Path) -> bytes:
    return call("webbrowser", "open", f"file://{canary}")


def nested_loads(canary: Path) -> bytes:
    """A pickle in the bytes that `pickle.loads` gets."""
    inner = os_system(canary)
    return b"\x80\x03c_pickle\nloads\n(B" + struct.pack("<I", len(inner)) + inner + b"tR."


def extension_registry(canary: Path) -> bytes:
    """A code of copyreg's registry instead of a name."""
    return b"\x80\x02\x82\x07(" + text(command(canary)) + b"tR."


def code_object(canary: Path) -> bytes:
    """A function made of marshalled code, as cloudpickle does."""
    return b"\x80\x02cmarshal\nloads\n(" + text(code(canary)) + b"tR."


def terminal_escapes(canary: Path) -> bytes:
    """Names that would clear the screen of whoever reads the refusal."""
    return b"\x80\x04" + text("\x1b[2J\x1b[32mos") + text("system\r") + b"\x93(" + text(command(canary)) + b"tR."


def build_setstate(canary: Path) -> bytes:
    """BUILD calls `__setstate__` of an object made without a call."""
    made = b"cos\n_wrap_close\n)\x81"
    return b"\x80\x02" + made + b"}(" + text("_proc") + text(str(canary)) + b"ub."


RAW_PICKLES: dict[str, tuple[Callable[[Path], bytes], bool]] = {
    "os-system": (os_system, True),
    "old-protocol": (old_protocol, True),
    "builtins-eval": (builtins_eval, True),
    "builtins-exec": (builtins_exec, True),
    "subprocess": (subprocess_popen, True),
    "functools-partial": (functools_partial, True),
    "importlib": (importlib_import, True),
    "stack-global": (stack_global, True),
    "computed-global": (computed_global, True),
    "dotted-global": (dotted_global, True),
    "inst-opcode": (inst_opcode, True),
    "obj-opcode": (obj_opcode, True),
    "attrgetter": (attrgetter, True),
    "methodcaller": (methodcaller, True),
    "broken-after": (broken_after, True),
    "second-stream": (second_stream, False),
    "pip-main": (pip_main, False),
    "runpy": (runpy_code, False),
    "webbrowser": (webbrowser_open, False),
    "nested-loads": (nested_loads, True),
    "extension-registry": (extension_registry, False),
    "marshal": (code_object, False),
    "build": (build_setstate, False),
    "terminal-escapes": (terminal_escapes, False),
}
"""By name: the bytes, and whether they run as they are."""

HARMLESS = pickle.dumps({"weights": [1.0, 2.0], "name": "harmless"})


def _raw(name: str, payload: Callable[[Path], bytes], *, runs: bool) -> Case:
    return Case(
        f"pickle-{name}",
        lambda directory, canary: write(directory / "model.pkl", payload(canary)),
        harmless_pickle,
        UntrustedPickle,
        "pickle",
        trusted=True,
        runs=runs,
    )


def harmless_pickle(directory: Path) -> Path:
    """The twin of all raw pickles."""
    return write(directory / "model.pkl", HARMLESS)


def cases() -> Iterator[Case]:
    """Each of them as a file of its own."""
    for name, (payload, runs) in RAW_PICKLES.items():
        yield _raw(name, payload, runs=runs)
