"""The innermost loops of products, written in LLVM's language: no loop of Numba's keeps its sums in registers.

A block of up to 6 rows times a panel holds up to 12 vectors of sums (the shape of the kernel of K. Goto and R. van de
Geijn, Anatomy of high-performance matrix multiplication, ACM TOMS 34:12, 2008).  Vectors have 64 bytes whatever the
machine: LLVM makes two registers of each for AVX2, one for AVX-512, four for NEON.  A multiply-add rounds once where
the machine knows that.  These do not run under `NUMBA_DISABLE_JIT=1`.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

BYTES = 64
"""Of a vector: 16 float32, 8 float64."""

# of a square, entries (i, j + d) and (i + d, j) change places for d = 1, 2, 4
_TURN = (
    (1, [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15]),
    (2, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]),
    (4, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]),
)
_WORD, _SHORT, _BIT = ir.IntType(64), ir.IntType(32), ir.IntType(1)


class _Loop:
    """A function of its own, never inlined (or its registers are spilt among those of its neighbours), around one loop
    whose sums stay in registers.

    Args:
        module: where it goes.
        name: without the type.
        element: float or double.
        arguments: besides what `sum` needs.
    """

    def __init__(self, module: Any, name: str, element: Any, arguments: list[Any]) -> None:
        self.size = 4 if element == ir.FloatType() else 8
        self.vector = ir.VectorType(element, BYTES // self.size)
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
        self.function.linkage = "linkonce_odr"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.vector.count}f{8 * self.size}"
        self.multiply_add = cgutils.get_or_insert_function(module, kind, name)

    def at(self, address: Any, place: Any) -> Any:
        """The vector at an entry."""
        return self.builder.bitcast(self.builder.gep(address, [place]), self.vector.as_pointer())

    def load(self, address: Any, place: Any) -> Any:
        return self.builder.load(self.at(address, place), align=self.size)

    def spread(self, entry: Any) -> Any:
        """A vector of equal entries."""
        undefined, count = ir.Constant(self.vector, ir.Undefined), self.vector.count
        one = self.builder.insert_element(undefined, entry, ir.Constant(_SHORT, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_SHORT, count), [0] * count))

    def run(
        self, starts: list[tuple[Any, list[Any]]], first: Any, last: Any, add: Callable[[Any, list[Any]], list[Any]]
    ) -> list[Any]:
        """`sums = add(k, sums)` for k from `first` to `last` - 1, at least once.

        Args:
            starts: the blocks from which the loop is entered, each ended here, and the sums with which.
        """
        builder = self.builder
        loop, end = self.function.append_basic_block("loop"), self.function.append_basic_block("end")
        for block, _ in starts:
            builder.position_at_end(block)
            builder.branch(loop)
        builder.position_at_end(loop)
        k, sums = builder.phi(_WORD), [builder.phi(self.vector) for _ in starts[0][1]]
        added = add(k, sums)
        following = builder.add(k, _number(1))
        for block, values in starts:
            k.add_incoming(first, block)
            for total, value in zip(sums, values, strict=True):
                total.add_incoming(value, block)
        k.add_incoming(following, loop)
        for total, value in zip(sums, added, strict=True):
            total.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, last), loop, end)
        builder.position_at_end(end)
        return added

    def zero(self) -> Any:
        return ir.Constant(self.vector, [0.0] * self.vector.count)


def _number(value: int) -> Any:
    return ir.Constant(_WORD, value)


def _block(module: Any, element: Any, rows: int, panels: int) -> Any:
    """(left, entries per row, right, entries per panel, out, entries per row, depth, fresh): out = or += left right."""
    name = f"hwsim_block_{rows}_{panels}_{element}"
    if name in module.globals:
        return module.globals[name]
    real = element.as_pointer()
    make = _Loop(module, name, element, [real, _WORD, real, _WORD, real, _WORD, _WORD, _BIT])
    builder, lanes = make.builder, make.vector.count
    left, by_row, right, by_panel, out, by_line, depth, fresh = make.function.args
    grid = [(row, panel) for row in range(rows) for panel in range(panels)]
    lefts = [builder.gep(left, [builder.mul(by_row, _number(row))]) for row in range(rows)]
    rights = [builder.gep(right, [builder.mul(by_panel, _number(panel))]) for panel in range(panels)]
    outs = [
        make.at(out, builder.add(builder.mul(by_line, _number(row)), _number(panel * lanes))) for row, panel in grid
    ]
    new, old = make.function.append_basic_block("new"), make.function.append_basic_block("old")
    builder.cbranch(fresh, new, old)
    builder.position_at_end(old)
    before = [builder.load(place, align=make.size) for place in outs]

    def add(k: Any, sums: list[Any]) -> list[Any]:
        place = builder.mul(k, _number(lanes))
        columns = [make.load(each, place) for each in rights]
        entries = [make.spread(builder.load(builder.gep(each, [k]))) for each in lefts]
        return [
            builder.call(make.multiply_add, [entries[row], columns[panel], total])
            for (row, panel), total in zip(grid, sums, strict=True)
        ]

    after = make.run([(new, [make.zero()] * len(grid)), (old, before)], _number(0), depth, add)
    for place, total in zip(outs, after, strict=True):
        builder.store(total, place, align=make.size)
    builder.ret_void()
    return make.function


def _row(module: Any, element: Any) -> Any:
    """(turned, places, values, begin, end, out): out += the sum of values times rows of `turned`, two vectors each."""
    name = f"hwsim_row_{element}"
    if name in module.globals:
        return module.globals[name]
    real = element.as_pointer()
    make = _Loop(module, name, element, [real, _SHORT.as_pointer(), real, _WORD, _WORD, real])
    builder, lanes = make.builder, make.vector.count
    turned, places, values, begin, end, out = make.function.args
    some, none = make.function.append_basic_block("some"), make.function.append_basic_block("none")
    builder.cbranch(builder.icmp_signed("<", begin, end), some, none)
    builder.position_at_end(none)
    builder.ret_void()
    builder.position_at_end(some)
    before = [make.load(out, _number(half * lanes)) for half in range(2)]

    def add(k: Any, sums: list[Any]) -> list[Any]:
        place = builder.sext(builder.load(builder.gep(places, [k])), _WORD)
        row = builder.mul(place, _number(2 * lanes))
        entry = make.spread(builder.load(builder.gep(values, [k])))
        parts = [make.load(turned, builder.add(row, _number(half * lanes))) for half in range(2)]
        return [builder.call(make.multiply_add, [entry, part, total]) for part, total in zip(parts, sums, strict=True)]

    for half, total in enumerate(make.run([(some, before)], begin, end, add)):
        builder.store(total, make.at(out, _number(half * lanes)), align=make.size)
    builder.ret_void()
    return make.function


def _square(module: Any, element: Any) -> Any:
    """(source, entries per row, target, entries per row): an 8 x 8 square, turned."""
    name = f"hwsim_square_{element}"
    if name in module.globals:
        return module.globals[name]
    real, vector, size = element.as_pointer(), ir.VectorType(element, 8), 4 if element == ir.FloatType() else 8
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [real, _WORD, real, _WORD]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    source, by_row, target, by_line = function.args

    def row(start: Any, step: Any, index: int) -> Any:
        return builder.bitcast(builder.gep(start, [builder.mul(step, _number(index))]), vector.as_pointer())

    rows = [builder.load(row(source, by_row, index), align=size) for index in range(8)]
    for distance, low, high in _TURN:
        pairs = [index for index in range(8) if not index & distance]
        mixed = list(rows)
        for index in pairs:
            one, other = rows[index], rows[index + distance]
            mixed[index] = builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_SHORT, 8), low))
            mixed[index + distance] = builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_SHORT, 8), high))
        rows = mixed
    for index, line in enumerate(rows):
        builder.store(line, row(target, by_line, index), align=size)
    builder.ret_void()
    return function


def _data(context: Any, builder: Any, kind: Any, array: Any, place: Any = None) -> Any:
    """The address of an array, or of one of its entries."""
    data = context.make_array(kind)(context, builder, array).data
    return data if place is None else builder.gep(data, [place])


def multiplier(rows: int, panels: int) -> Callable[..., None]:
    """`block(left, a, a', right, b, b', out, c, c', depth, fresh)` for kernels: `rows` rows of left, from entry a on
    and a' entries apart, times `panels` panels, from entry b on and b' apart, are put at entry c of out, rows c' apart,
    or added there unless `fresh`.  All arrays are C-contiguous, depth is at least 1."""

    @intrinsic
    def block(
        typing: Any,
        left: Any,
        a: Any,
        da: Any,
        right: Any,
        b: Any,
        db: Any,
        out: Any,
        c: Any,
        dc: Any,
        n: Any,
        new: Any,
    ) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kinds = signature.args
            arrays = [_data(context, builder, kinds[i], values[i], values[i + 1]) for i in (0, 3, 6)]
            function = _block(builder.module, context.get_data_type(kinds[0].dtype), rows, panels)
            fresh = cgutils.as_bool_bit(builder, values[10])
            first, second, third = arrays
            builder.call(function, [first, values[2], second, values[5], third, values[8], values[9], fresh])
            return context.get_dummy_value()

        return types.void(left, a, da, right, b, db, out, c, dc, n, new), emit

    return block


@intrinsic
def _gather(typing: Any, turned: Any, places: Any, values: Any, begin: Any, end: Any, place: Any) -> Any:
    """For kernels: to `turned` from entry `place` on is added the sum over e of values[e] times its row places[e]."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        addresses = [_data(context, builder, kinds[i], given[i]) for i in range(3)]
        function = _row(builder.module, context.get_data_type(kinds[0].dtype))
        builder.call(function, [*addresses, given[3], given[4], _data(context, builder, kinds[0], given[0], given[5])])
        return context.get_dummy_value()

    return types.void(turned, places, values, begin, end, place), emit


@intrinsic
def _turn(typing: Any, source: Any, a: Any, da: Any, target: Any, b: Any, db: Any) -> Any:
    """For kernels: the 8 x 8 entries from entry a of source on, rows da apart, turned, from entry b of target on."""

    def emit(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        kinds = signature.args
        function = _square(builder.module, context.get_data_type(kinds[0].dtype))
        here, there = (_data(context, builder, kinds[i], given[i], given[i + 1]) for i in (0, 3))
        builder.call(function, [here, given[2], there, given[5]])
        return context.get_dummy_value()

    return types.void(source, a, da, target, b, db), emit


gather: Any = _gather
turn: Any = _turn
