"""What the bridges to other engines stand on: maps that know their derivatives, and what a missing engine says."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest

import dualsvd as ds
from dualsvd.interop.maps import Batch, Function, Map, Memory, Tangent, Transpose, remembering


@pytest.fixture
def svdvals() -> Function:
    return Function(ds.svdvals, "(m,n)->(r)")


def close(x: Any, y: Any, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def test_tangent_and_transpose_are_adjoint_at_every_order(svdvals: Map, rng: np.random.Generator) -> None:
    """<w, T(F) v> = <T(F)^T w, v>, for F, for its tangent, and for its transpose."""
    a, da = rng.standard_normal((2, 4, 3))
    s_bar = rng.standard_normal(3)
    maps = {
        svdvals: (a,),
        Tangent(svdvals, (True,)): (a, da),
        Transpose(svdvals, (True,)): (a, s_bar),
    }
    for f, xs in maps.items():
        moves = (True,) * len(xs)
        v = [rng.standard_normal(x.shape) for x in xs]
        w = [rng.standard_normal(y.shape) for y in f(*xs)]
        forward = sum(np.sum(p * q) for p, q in zip(w, Tangent(f, moves)(*xs, *v)))
        reverse = sum(np.sum(p * q) for p, q in zip(Transpose(f, moves)(*xs, *w), v))
        close(forward, reverse, 1e-12)


def test_operands_that_do_not_move_are_left_out(svdvals: Map, rng: np.random.Generator) -> None:
    a, da = rng.standard_normal((2, 4, 3))
    f = Tangent(svdvals, (True,))
    (along,) = Tangent(f, (False, True))(a, da, 2 * da)  # linear in da
    close(along, 2 * f(a, da)[0])
    assert len(Transpose(f, (False, True))(a, da, along)) == 1


def test_a_batch_is_the_loop(svdvals: Map, rng: np.random.Generator) -> None:
    a, bars = rng.standard_normal((5, 4, 3)), rng.standard_normal((5, 3))
    pull = Transpose(svdvals, (True,))
    assert pull.over((True, True)) is pull
    (native,), (looped,) = pull(a, bars), Batch(pull, (True, True))(a, bars)
    close(native, looped)
    shared = pull.over((False, True))
    close(shared(a[0], bars)[0], np.stack([pull(a[0], bar)[0] for bar in bars]))


def test_a_batch_of_nothing_has_the_shapes_and_dtypes_of_any_other(svdvals: Map) -> None:
    """So that an engine may ask for the Jacobian of no values: of an empty matrix."""
    a, bars = np.ones((4, 3), np.complex64), np.ones((0, 3), np.float32)
    (nothing,) = Transpose(svdvals, (True,)).over((False, True))(a, bars)
    assert nothing.shape == (0, 4, 3) and nothing.dtype == a.dtype
    assert [y.shape for y in Batch(Function(ds.svd), (True,))(np.ones((0, 4, 3)))] == [(0, 4, 3), (0, 3), (0, 3, 3)]


def test_maps_are_equal_by_value() -> None:
    f = Function(ds.low_rank, "(m,n)->(m,n)", (("k", 1),))
    assert Tangent(f, (True,)) == Tangent(Function(ds.low_rank, "(m,n)->(m,n)", (("k", 1),)), (True,))
    assert f != Function(ds.low_rank, "(m,n)->(m,n)", (("k", 2),))
    with ds.options(algorithm="jacobi"):
        assert f != Function(ds.low_rank, "(m,n)->(m,n)", (("k", 1),))


def test_a_recording_is_used_again_only_where_it_was_made(
    svdvals: Function, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("dualsvd.linalg.svd")
    calls, factors = [], module.svd_factors
    monkeypatch.setattr(module, "svd_factors", lambda *args: calls.append(1) or factors(*args))
    a = rng.standard_normal((4, 3))
    pull = Transpose(svdvals, (True,))
    with remembering(Memory()):
        svdvals(a)
        here = pull(a, np.ones(3))
        assert len(calls) == 1
        a *= 2.0  # written to in place: what is remembered is a copy
        (there,) = pull(a, np.ones(3))
        assert len(calls) == 2
    close(here[0], there)  # U V^H does not see the factor
    close(there, ds.polar(a).unitary)


ENGINES = ("torch", "jax", "autograd", "dask")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_engine_says_what_to_install(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.delitem(sys.modules, f"dualsvd.interop.{engine}", raising=False)
    for name in [name for name in sys.modules if name.startswith(f"{engine}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ds.BackendError, match=rf"needs the package {engine}.*pip install 'dualsvd\[{engine}\]'"
    ) as info:
        importlib.import_module(f"dualsvd.interop.{engine}")
    assert isinstance(info.value, ImportError)  # so that an optional import may be written as one


def test_no_engine_is_an_attribute_by_another_name() -> None:
    with pytest.raises(AttributeError, match="tensorflow"):
        _ = ds.interop.tensorflow
