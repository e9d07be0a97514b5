"""Sixteen float32 numbers as one value in compiled kernels: what a vector register holds.

LLVM turns loops into vector instructions only where it can prove that no array overlaps another,
and gives up in silence. Kernels that must not leave it to luck compute with `Lanes` instead: `load`
makes one from an array, `spread` from a number, the operators + - * / and unary minus, `pick` and
the comparisons work lane by lane, `store` and `total` lead back. A machine with shorter registers
uses several.
"""

# Numba infers the types of kernels, and what is defined here is known to its compiler alone.
# pyright: reportMissingParameterType=false

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

WIDTH = 16
# Untyped: numba hands the first argument over itself, which a type checker cannot know.
_intrinsic: Any = intrinsic
_infer_global: Any = infer_global
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_BITS = ir.VectorType(ir.IntType(1), WIDTH)
_WHOLES = ir.VectorType(ir.IntType(32), WIDTH)


class LanesType(types.Type):
    """Numba's name for sixteen float32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


class ChoiceType(types.Type):
    """Numba's name for sixteen truth values."""

    def __init__(self) -> None:
        super().__init__(name="Choice")


lanes, choice = LanesType(), ChoiceType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:  # noqa: ANN401  numba's own, untyped
        super().__init__(manager, kind, _FLOATS)


@register_model(ChoiceType)
class _ChoiceModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:  # noqa: ANN401  numba's own, untyped
        super().__init__(manager, kind, _BITS)


def _teach(symbol: Any, inputs: tuple[types.Type, ...], output: types.Type, build: Any) -> None:  # noqa: ANN401
    """Let an operator take lanes; `build(builder, *values)` writes the instruction."""

    @_infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:  # noqa: ANN401  numba's own, untyped
            return signature(output, *inputs) if args == inputs and not kws else None

    @lower_builtin(symbol, *inputs)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:  # noqa: ANN401
        del context, sig
        return build(builder, *args)


def _compare(sign: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: builder.fcmp_ordered(sign, a, b)


def _arithmetic(name: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, a, b: getattr(builder, name)(a, b)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.isub, "fsub"),
    (operator.mul, "fmul"),
    (operator.imul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.itruediv, "fdiv"),
):
    _teach(_symbol, (lanes, lanes), lanes, _arithmetic(_name))
_teach(operator.neg, (lanes,), lanes, lambda builder, a: builder.fneg(a))
for _symbol, _sign in ((operator.ge, ">="), (operator.gt, ">"), (operator.lt, "<")):
    _teach(_symbol, (lanes, lanes), choice, _compare(_sign))
_teach(operator.and_, (choice, choice), choice, lambda builder, a, b: builder.and_(a, b))
_teach(operator.or_, (choice, choice), choice, lambda builder, a, b: builder.or_(a, b))


def _spot(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:  # noqa: ANN401
    """Point at 16 numbers of a contiguous float32 array from `index` on."""
    data = cgutils.create_struct_proxy(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@_intrinsic
def load(context, array, index):  # noqa: ANN001, ANN201
    """Read 16 numbers of a contiguous float32 array from `index` on, counted from its beginning."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        where = _spot(context, builder, signature.args[0], *arguments)
        return builder.load(where, align=4)

    return lanes(array, index), generate


@_intrinsic
def store(context, array, index, value):  # noqa: ANN001, ANN201
    """Write lanes into a contiguous float32 array from `index` on, counted from its beginning."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        where = _spot(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], where, align=4)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@_intrinsic
def spread(context, value):  # noqa: ANN001, ANN201, ARG001  numba asks for the name
    """Put one float32 number into all lanes."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        del context, signature
        nothing = ir.Constant(_FLOATS, ir.Undefined)
        one = builder.insert_element(nothing, arguments[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, nothing, ir.Constant(_WHOLES, [0] * WIDTH))

    return lanes(types.float32), generate


def constant(values: list[float]) -> Any:  # noqa: ANN401
    """Make a function that gives these sixteen numbers."""

    def typed(context):  # noqa: ANN001, ANN202
        del context

        def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            del context, builder, signature, arguments
            return ir.Constant(_FLOATS, values)

        return lanes(), generate

    return _intrinsic(typed)


@_intrinsic
def pick(context, where, yes, no):  # noqa: ANN001, ANN201
    """Take each lane from `yes` where the choice is true, else from `no`."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        del context, signature
        return builder.select(*arguments)

    return lanes(where, yes, no), generate


@_intrinsic
def any_of(context, where):  # noqa: ANN001, ANN201
    """Say whether the choice is true in any lane."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        del context, signature
        bits = builder.bitcast(arguments[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(WIDTH), 0))

    return types.boolean(where), generate


@_intrinsic
def bits_of(context, where):  # noqa: ANN001, ANN201
    """Write a choice as the bits of a whole number, the first lane as the lowest."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        del context, signature
        bits = builder.bitcast(arguments[0], ir.IntType(WIDTH))
        return builder.zext(bits, ir.IntType(32))

    return types.uint32(where), generate


@_intrinsic
def total(context, value):  # noqa: ANN001, ANN201
    """Add up the lanes, halving them four times."""
    del context

    def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        del context, signature
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.FloatType(), [ir.FloatType(), _FLOATS]),
            "llvm.vector.reduce.fadd.v16f32",
        )
        zero = ir.Constant(ir.FloatType(), -0.0)
        return builder.call(function, [zero, arguments[0]], fastmath=("reassoc",))

    return types.float32(value), generate


def _of_one(name: str) -> Any:  # noqa: ANN401
    """Make a function of one value out of LLVM's of that name."""

    def typed(context, value):  # noqa: ANN001, ANN202
        del context

        def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            del context, signature
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(_FLOATS, [_FLOATS]), f"llvm.{name}.v16f32"
            )
            return builder.call(function, arguments)

        return lanes(value), generate

    return _intrinsic(typed)


root = _of_one("sqrt")
size = _of_one("fabs")


def _shuffle(sources: list[int]) -> Any:  # noqa: ANN401
    """Make a function that picks lanes out of two, numbered 0 to 31."""

    def typed(context, first, second):  # noqa: ANN001, ANN202
        del context

        def generate(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            del context, signature
            return builder.shuffle_vector(*arguments, ir.Constant(_WHOLES, sources))

        return lanes(first, second), generate

    return _intrinsic(typed)


evens = _shuffle(list(range(0, 32, 2)))
odds = _shuffle(list(range(1, 32, 2)))
swapped = _shuffle([*range(8, 16), *range(8)])
"""The last eight lanes of the first, then its first eight; the second is not looked at."""
zipped = _shuffle([half + lane for lane in range(8) for half in (0, 16)])
"""The first eight lanes of both by turns."""
