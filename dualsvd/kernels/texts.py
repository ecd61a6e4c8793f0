"""The texts made known to Numba: what calls them from compiled code compiles them, once for each kind of number.

Imported on first use, for it imports Numba.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import BaseNativeLowering, NativeLowering
from numba.extending import overload, register_jitable

from . import bidiagonal, derivatives, dual_svd, householder, jacobi, qr
from .buffers import order_of
from .scalars import compile_rule

#: Fused multiply-add; NaN, infinity and signs of zeros keep their meaning, and sums their order. Not reciprocals: LLVM
#: takes those of single precision by an estimate, which is a sixth of a rounding too small on average.
FAST = {"contract"}
OPTIONS = {"fastmath": FAST, "error_model": "numpy", "boundscheck": False}


class _OptimisedByCallers(Lower):
    """Code for its callers to optimise, who know how long its loops are: LLVM would unroll loops of unknown length, and
    once the length is known, what is left of that stays in pieces."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        self.function.attributes.add("optsize")


@register_pass(mutates_CFG=True, analysis_only=False)
class _LaterLowering(BaseNativeLowering):
    _name = "dualsvd_later_lowering"  # type: ignore[assignment]

    @property
    def lowering_class(self) -> type[Lower]:
        return _OptimisedByCallers


class _OptimisedLater(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [(_LaterLowering if x is NativeLowering else x, name) for x, name in manager.passes]
        return [manager]


def _own(module: Any) -> list[Any]:
    """The functions of a module, not those that it imports."""
    return [x for x in vars(module).values() if isinstance(x, FunctionType) and x.__module__ == module.__name__]


#: Functions of numbers alone: they are run while what calls them is compiled, for a third of the time.
STAGED = {
    jacobi.rotation,
    jacobi.angle,
    jacobi.angle_of_duals,
    jacobi.sheared,
    jacobi.turned,
    jacobi.changes,
    jacobi.pair_rotation,
    jacobi.tile_changes,
    jacobi.tile_rotations,
    dual_svd.rebase,
    derivatives.reciprocals,
    bidiagonal.annul,
}

#: What runs once an entry or a pair is inlined, so that packs stay in registers. So are the closed forms, whole: for a
#: fixed size their loops unroll, which halves their time. What runs once a sweep or less is not: it would only make the
#: compiler work.
HOT = {
    jacobi.dots,
    jacobi.inner,
    jacobi.norm2,
    jacobi.rotate,
    jacobi.turn_pair,
    jacobi.turn_columns,
    jacobi.write_small_scales,
    jacobi.turn_tile,
    jacobi.tile_dots,
    jacobi.rotate_tile,
    jacobi.finish_tile,
    jacobi.gather,
    jacobi.turn_one,
    dual_svd.settle_pair,
    dual_svd.shear,
    qr.shift,
    qr.exponent_of,
    *_own(derivatives),
}
HOT |= {  # these stand in a kernel once
    jacobi.svd,
    jacobi.converge,
    jacobi.iterate,
    jacobi.sweep,
    jacobi.sweep_by_pairs,
    jacobi.converge_in_fronts,
    jacobi.sweep_in_fronts,
    jacobi.turn_front,
    jacobi.normalise,
    jacobi.extent,
    jacobi.raise_lanes,
}

# The texts allocate nothing, so they need not count who holds a buffer: to count costs more than a small rotation.
TEXT: Any = OPTIONS | {"_nrt": False, "no_cfunc_wrapper": True}

INLINED: Any = {"forceinline": True, "pipeline_class": _OptimisedLater}

for _module in (jacobi, dual_svd, derivatives, qr, householder, bidiagonal):
    for _function in _own(_module):
        if _function in STAGED:
            compile_rule(_function)
        elif _function is not dual_svd.follow_at_tie:
            register_jitable(**TEXT, **(INLINED if _function in HOT else {}))(_function)


@overload(dual_svd.follow_at_tie, jit_options=TEXT, strict=False)
def _follow_at_tie(A, V, S, U0, S0, m, n, tie, phases):
    """By the order of the derivatives, so that the other way is not compiled."""
    return dual_svd.follow_first if order_of(A.number) == 1 else dual_svd.follow_nested


#: How kernels' own functions are registered: those that stay calls, and those that are put where they are called, for
#: they run once an entry or stand in one place.
called = register_jitable(**OPTIONS, no_cfunc_wrapper=True)
inlined = register_jitable(**OPTIONS, no_cfunc_wrapper=True, **INLINED)
