"""Matrices between global memory and the numbers that a thread works on: indexing, scaling, verdicts."""

from __future__ import annotations

import math

from numba.extending import register_jitable

from .. import derivatives, jacobi
from ..buffers import buffer, components
from ..derivatives import conjugate_if
from ..protocol import absolute, any_true, imag, like, real, where
from ..texts import OPTIONS
from ..verdicts import NONFINITE, TIED, UNCONVERGED

inline = register_jitable(**OPTIONS)


# ---- indexing


@inline
def halves(exponent, x):
    """Two powers of two whose product is 2^exponent, in the precision of x: one alone may overflow."""
    half, zero = int(exponent) // 2, like(real(x), 0.0)
    return like(zero, math.ldexp(1.0, half)), like(zero, math.ldexp(1.0, int(exponent) - half))


@inline
def place(e, rows, cols, wide, lead):
    """Where entry e of a matrix in memory, row by row, stands in a buffer of columns, `lead` numbers from one to the
    next; a wide one is transposed."""
    return (e // rows) * lead + e % rows if wide else (e % cols) * lead + e // cols


@inline
def load(X, stride, which, x, start, rows, cols, wide, exponent, first, step, lead=None):
    """A matrix of x times 2^exponent, conjugated if wide, to component `which` of the numbers in the columns of X.

    Columns follow each other without a gap, or every `lead` numbers.
    """
    f, g = halves(exponent, x[start])
    distance = rows if lead is None else lead
    for e in range(first, rows * cols, step):
        X[place(e, rows, cols, wide, distance) * stride + which] = conjugate_if(wide, x[start + e]) * f * g


@inline
def store(X, stride, which, x, start, rows, cols, wide, exponent, first, step, lead=None):
    """The inverse of `load`."""
    f, g = halves(exponent, X[which])
    distance = rows if lead is None else lead
    for e in range(first, rows * cols, step):
        x[start + e] = conjugate_if(wide, X[place(e, rows, cols, wide, distance) * stride + which]) * f * g


@inline
def load_factors(U, V, left, right, b, rows, cols, wide, first, step, leads=(None, None)):
    """U and V of matrix b as columns; `left` and `right` are U and Vh as they stand in memory."""
    tall, square = (right, left) if wide else (left, right)
    load(U, 1, 0, tall, b * rows * cols, rows, cols, wide, 0, first, step, leads[0])
    load(V, 1, 0, square, b * cols * cols, cols, cols, not wide, 0, first, step, leads[1])


@inline
def store_factors(U, V, stride, which, left, right, b, rows, cols, wide, exponent, first, step, leads=(None, None)):
    """The inverse of `load_factors`, for component `which`, times 2^exponent."""
    tall, square = (right, left) if wide else (left, right)
    store(U, stride, which, tall, b * rows * cols, rows, cols, wide, exponent, first, step, leads[0])
    store(V, stride, which, square, b * cols * cols, cols, cols, not wide, exponent, first, step, leads[1])


@inline
def fill(X, size, x, first, step):
    for e in range(first, size, step):
        X[e] = x


@inline
def identity(V, n, first, step):
    one, zero = like(V[0], 1.0), like(V[0], 0.0)
    for e in range(first, n * n, step):
        V[e] = one if e % (n + 1) == 0 else zero


@inline
def view(x, start, kind):
    """The numbers of a flat array from number `start` on."""
    return buffer(x[start * components(kind) :], kind)


# ---- scaling and verdicts


@inline
def larger(top, x):
    """The larger; infinity if x is not finite."""
    return where(x <= top, top, where(x < like(x, math.inf), x, like(x, math.inf)))


@inline
def largest(x, start, size, first, step):
    """The largest |real or imaginary part| of some numbers, infinity if one is not finite."""
    top = like(real(x[start]), 0.0)
    for e in range(start + first, start + size, step):
        top = larger(larger(top, absolute(real(x[e]))), absolute(imag(x[e])))
    return top


@inline
def exponent_for(top, height):
    """The exponent that brings `top` to 2^height; 0 if it is not finite."""
    return jacobi.exponent_to(float(top), height) if top < like(top, math.inf) else 0


@inline
def verdict(S, info, finite, n, limit):
    """The flags of a finished matrix."""
    flags = 0 if any_true(derivatives.simple(S, n)) else TIED
    if not finite:
        flags |= NONFINITE
    if any_true(info[0] >= like(info[0], limit)):
        flags |= UNCONVERGED
    return flags


@inline
def tell(report, b, info, flags):
    """Sweeps, off-norm and flags of matrix b."""
    report[3 * b], report[3 * b + 1], report[3 * b + 2] = float(info[0]) + 1.0, math.sqrt(float(info[1])), float(flags)
