"""Exported programs (torch.export): what in their JSON torch would run is held against the little that it writes there.

`torch.export.load` evaluates sizes with sympy, which evaluates Python; the module it makes executes guards as Python;
operators are looked up by name, and contexts of trees import what they name. So each of these is read to its end here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, Final

from taxiway.core.errors import UnsafeArtifact, UntrustedPickle
from taxiway.intake.limits import Limits
from taxiway.intake.read.documents import read_json
from taxiway.intake.scan.look import Look

_MAX_TOLD = 4
_MAX_CODE = 4096
_MAX_TEXTS_WITHIN = 6
_MAX_EXPONENT = 64

_OPERATOR: Final = re.compile(
    r"torch\.ops\.(aten|prims|quantized|quantized_decomposed|torchvision)\.(?!from_file\b|save\b)\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast|flex_attention)"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|not_|or_|pos|pow|sub|truediv)"
    r"|math\.(ceil|floor|sqrt|trunc|log|exp|pow)|torch\.sym_\w+|torch\._sym_\w+"
)
"""Operators that compute tensors from tensors, and numbers from numbers: none of them opens a file."""

_FUNCTIONS: Final = re.compile(
    r"Symbol|Integer|Rational|Float|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt|TruncToFloat"
    r"|ToFloat|RoundToInt|RoundDecimal|IntTrueDiv|FloatTrueDiv|ModularIndexing|Where|Max|Min|Add|Mul|Pow|PowByNatural"
    r"|FloatPow|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Abs|Identity|Equality|Unequality|OpaqueUnaryFn_\w+|BitwiseFn_\w+"
)
_POWERS: Final = frozenset({"Pow", "PowByNatural", "FloatPow"})
_METHODS: Final = frozenset({"size", "stride", "storage_offset", "dim", "numel"})
_NAME: Final = re.compile(r"(?!.*__)[A-Za-z_]\w{0,63}")

_PLAIN: Final = (
    *(ast.Expression, ast.Load, ast.Constant, ast.Name, ast.keyword, ast.Call, ast.BoolOp, ast.And, ast.Or),
    *(ast.UnaryOp, ast.USub, ast.UAdd, ast.Not, ast.Compare, ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow),
)
_ACCESS: Final = (ast.Subscript, ast.Attribute)
"""Only guards ask for parts of what a program is given: `L['x'].size()[0]`."""


def scan_program(look: Look) -> None:
    """Refuse a JSON text of an exported program that asks for more than arithmetic, unless the file is trusted.

    Raises:
        UntrustedPickle: it holds code, or operators, that are not known to be harmless.
        UnsafeArtifact: it is no JSON, or too large.
    """
    with look.mapped() as data:
        document = read_json(memoryview(data), look.shown, look.limits)
    found = list(dict.fromkeys(_strange(document, look.limits)))
    if not found:
        return
    told = ", ".join(found[:_MAX_TOLD])
    if look.trusted:
        look.vouch(f"holds {told}, which torch may run")
        return
    raise UntrustedPickle(
        f"{look.shown} holds {told}, which torch may run when it loads the program",
        hint=f"export it again with torch.export.save; if you made this file yourself, say --trust {look.owner.digest}",
        file=look.shown,
        rule="exported-code",
        digest=look.owner.digest,
    )


def _strange(document: Any, limits: Limits) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Everything in it that is not known to be harmless, in words."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    while waiting:
        value, within = waiting.pop()
        if isinstance(value, dict):
            yield from _strange_keys(value)
            waiting += [(inner, within) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, within) for inner in value]
        elif isinstance(value, str) and value[:1] in ("[", "{"):  # trees are JSON in JSON
            if within == _MAX_TEXTS_WITHIN:
                yield "JSON in JSON without end"
            else:
                waiting += _read_within(value, within, limits)


def _read_within(text: str, within: int, limits: Limits) -> list[tuple[Any, int]]:
    try:
        return [(read_json(text.encode(), "", limits), within + 1)]
    except (UnsafeArtifact, UnicodeEncodeError):
        return []


def _strange_keys(value: dict[str, Any]) -> Iterator[str]:
    if "expr_str" in value and not _is_arithmetic(value["expr_str"]):
        yield f"the expression {str(value['expr_str'])[:80]!r}"
    for guard in _listed(value.get("guards_code")):
        if not _is_arithmetic(guard, *_ACCESS):
            yield f"the guard {str(guard)[:80]!r}"
    target = value.get("target")
    if "target" in value and "inputs" in value and not _is_operator(target):
        yield f"the operator {str(target)[:80]!r}"
    if "__enum__" in value:
        yield f"the enumeration {str(value.get('fqn'))[:80]!r}"
    if value.get("default_factory_module", "builtins") not in ("builtins", "collections"):
        yield f"the factory {str(value['default_factory_module'])[:80]!r}"


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_operator(target: Any) -> bool:  # noqa: ANN401 - JSON
    return isinstance(target, str) and _OPERATOR.fullmatch(target) is not None


def _is_arithmetic(code: Any, *more: type[ast.AST]) -> bool:  # noqa: ANN401 - JSON
    """Whether a text is one short expression of numbers, sizes and the functions that sizes are written with."""
    if not isinstance(code, str) or len(code) > _MAX_CODE or not code.isprintable() or "#" in code:
        return False
    try:
        tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    texts = {id(text) for node in ast.walk(tree) for text in _texts_of(node)}
    return all(isinstance(node, (*_PLAIN, *more)) and _is_plain(node, texts) for node in ast.walk(tree))


def _texts_of(node: ast.AST) -> list[ast.expr]:
    """Where a text may stand: as the name of a symbol, and as a key."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Symbol":
        return node.args[:1]
    return [node.slice] if isinstance(node, ast.Subscript) else []


def _is_plain(node: ast.AST, texts: set[int]) -> bool:
    match node:
        case ast.Name(id=name):
            return _NAME.fullmatch(name) is not None
        case ast.Constant(value=str() as text):
            return id(node) in texts and _NAME.fullmatch(text) is not None
        case ast.Constant(value=value):
            return isinstance(value, int | float) and abs(value) < 2**64
        case ast.Attribute(attr=name):
            return name in _METHODS
        case ast.Subscript(slice=key):
            return isinstance(key, ast.Constant)
        case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
            return _is_small_power(base, exponent)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            if name in _POWERS and not (len(arguments) == 2 and _is_small_power(*arguments)):
                return False
            return _FUNCTIONS.fullmatch(name) is not None
        case ast.Call(func=function, args=arguments):
            return isinstance(function, ast.Attribute) and not arguments
        case _:
            return True


def _is_small_power(base: ast.expr, exponent: ast.expr) -> bool:
    """Not a number with more digits than there are atoms."""
    if isinstance(exponent, ast.Call) and len(exponent.args) == 1:
        (exponent,) = exponent.args  # Integer(2), as sympy writes it
    if isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    small = isinstance(exponent, ast.Name) or (
        isinstance(exponent, ast.Constant)
        and isinstance(exponent.value, int | float)
        and exponent.value <= _MAX_EXPONENT
    )
    return small and not any(_is_power(node) for node in ast.walk(base))


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _POWERS
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
