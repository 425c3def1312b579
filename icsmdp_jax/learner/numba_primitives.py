"""The compiler settings of the loops of ``numba_kernels``, and the few instructions that Numba has no name for."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 8  # numbers of a vector; features are padded to a multiple of it
PEELED = 4  # vectors that are reached without a loop
EIGHT = ir.VectorType(ir.FloatType(), WIDTH)


instruction: Any = intrinsic


def _compiled(**more: Any) -> Callable[[Any], Any]:
    """Decorator; compiled code goes into the user's cache, not the package; other functions keep their own place."""

    def wrapped(function: Any) -> Any:
        config: Any = numba.config
        elsewhere = config.CACHE_DIR
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(Path.home(), ".cache")
        # Numba asks only whether the file of the function has changed; what it calls here is part of its code, too.
        sources = (Path(name).read_bytes() for name in (__file__, function.__code__.co_filename))
        digest = f"{zlib.crc32(b''.join(sources)):08x}"
        config.CACHE_DIR = os.path.join(elsewhere or os.path.join(cache, "icsmdp_jax", "numba"), digest)
        try:
            return njit(nogil=True, cache=True, error_model="numpy", **more)(function)
        finally:
            config.CACHE_DIR = elsewhere

    return wrapped


# Without counting references: with it, a function with branches counts those of its arrays at every call.
kernel, scalar, owning = _compiled(_nrt=False), _compiled(_nrt=False, forceinline=True), _compiled()


def _fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """``a b + c`` of float32, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), build


fma = instruction(_fma)


@instruction
def float_of(context: Any, bits: Any) -> Any:
    """The float32 that a uint32 holds the bits of."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), build


def _narrow(size: int) -> Any:
    """Reads an array of uint64 as one of unsigned integers of that many bits."""

    def typed(context: Any, array: Any, index: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            narrow = builder.bitcast(data, ir.IntType(size).as_pointer())
            return builder.load(builder.gep(narrow, [arguments[1]]))

        return types.Integer.from_bitwidth(size, False)(array, types.uint64), build

    return instruction(typed)


as_u16, as_u32 = _narrow(16), _narrow(32)


def _contracted(builder: Any, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """``a b + c`` of vectors, rounded once where that is one instruction."""
    return builder.fadd(builder.fmul(a, b, flags=["contract"]), c, flags=["contract"])


def _eight(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> ir.Value:
    """Pointer to ``WIDTH`` numbers of an array from a place on."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [place]), EIGHT.as_pointer())


def _vectors(builder: Any, size: ir.Value, body: Callable[[ir.Value], None]) -> None:
    """``body`` at 0, ``WIDTH``, ... below ``size``, at least once; the first ``PEELED`` without a loop's counters."""
    end = builder.append_basic_block("done")
    for k in range(PEELED):
        body(ir.Constant(size.type, k * WIDTH))
        more = builder.append_basic_block("more")
        builder.cbranch(builder.icmp_unsigned(">", size, ir.Constant(size.type, (k + 1) * WIDTH)), more, end)
        builder.position_at_end(more)
    step = ir.Constant(size.type, WIDTH)
    with cgutils.for_range(builder, builder.sub(builder.udiv(size, step), ir.Constant(size.type, PEELED))) as loop:
        body(builder.mul(builder.add(loop.index, ir.Constant(size.type, PEELED)), step))
    builder.branch(end)
    builder.position_at_end(end)


@instruction
def dot(context: Any, one: Any, at: Any, other: Any, row: Any, size: Any) -> Any:
    """Product of ``size`` numbers of one array and another, from places on; ``size`` is a multiple of ``WIDTH``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        one, at, other, row, size = arguments
        total = cgutils.alloca_once_value(builder, ir.Constant(EIGHT, [0.0] * WIDTH))

        def add(k: ir.Value) -> None:
            x = builder.load(_eight(context, builder, signature.args[0], one, builder.add(at, k)), align=4)
            y = builder.load(_eight(context, builder, signature.args[2], other, builder.add(row, k)), align=4)
            builder.store(_contracted(builder, x, y, builder.load(total)), total)

        _vectors(builder, size, add)
        left, count = builder.load(total), WIDTH
        while count > 1:  # halves are added until one number is left
            count //= 2
            halves = [[first + i for i in range(count)] for first in (0, count)]
            low, high = (
                builder.shuffle_vector(left, left, ir.Constant(ir.VectorType(ir.IntType(32), count), half))
                for half in halves
            )
            left = builder.fadd(low, high)
        return builder.extract_element(left, ir.Constant(ir.IntType(32), 0))

    return types.float32(one, types.uint64, other, types.uint64, types.uint64), build


@instruction
def move(
    context: Any, theta: Any, at: Any, sums: Any, place: Any, psi: Any, row: Any, size: Any, step: Any, by: Any
) -> Any:
    """``theta += step psi``, and ``by`` times what that changed to the sums; places and ``size`` as for ``dot``."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        theta, at, sums, place, psi, row, size, step, by = arguments

        def spread(number: ir.Value) -> ir.Value:
            whole = ir.Constant(EIGHT, ir.Undefined)
            for i in range(WIDTH):
                whole = builder.insert_element(whole, number, ir.Constant(ir.IntType(32), i))
            return whole

        step, by = spread(step), spread(by)

        def add(k: ir.Value) -> None:
            here = _eight(context, builder, signature.args[0], theta, builder.add(at, k))
            total = _eight(context, builder, signature.args[2], sums, builder.add(place, k))
            x = builder.load(_eight(context, builder, signature.args[4], psi, builder.add(row, k)), align=4)
            old = builder.load(here, align=4)
            new = _contracted(builder, step, x, old)
            builder.store(new, here, align=4)
            sum_ = _contracted(builder, by, builder.fsub(new, old), builder.load(total, align=4))
            builder.store(sum_, total, align=4)

        _vectors(builder, size, add)
        return context.get_dummy_value()

    whole = types.uint64
    return types.void(theta, whole, sums, whole, psi, whole, whole, types.float32, types.float32), build
