"""dualsvd's functions on Dask arrays: chunk by chunk, and for matrices spread over many chunks."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import dualsvd as ds

dask = pytest.importorskip("dask", reason="Dask is not installed")
da = pytest.importorskip("dask.array")
dsd = importlib.import_module("dualsvd.interop.dask")

# How a matrix lies: its shape, and its chunks.
LAYOUTS: dict[str, tuple[tuple[int, ...], Any]] = {
    "a stack": ((8, 4, 3), (3, 4, 3)),
    "a stack of stacks": ((2, 3, 3, 4), (1, 2, 3, 4)),
    "blocks of rows": ((40, 3), (10, 3)),
    "uneven blocks shorter than wide": ((23, 5), ((4, 4, 1, 4, 6, 4), (5,))),
    "blocks of columns": ((3, 40), (3, 10)),
    "blocks of a matrix that is almost square": ((9, 6), (2, 6)),
    "thin blocks of columns": ((20, 3), (20, 1)),
    "thin blocks of rows": ((3, 20), (2, 20)),
    "one block": ((5, 3), (5, 3)),
}
EACH = pytest.mark.parametrize(("shape", "chunks"), LAYOUTS.values(), ids=LAYOUTS)
DTYPES = pytest.mark.parametrize("dtype", ["float64", "complex128"])


@pytest.fixture(autouse=True)
def in_one_thread() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


def matrix(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    a = rng.standard_normal(shape)
    return (a + 1j * rng.standard_normal(shape) if "complex" in dtype else a).astype(dtype)


def close(x: Any, y: Any, tolerance: float = 1e-13) -> None:
    """Equal in value, and of the shape and dtype that Dask announced."""
    announced = (x.shape, x.dtype) if isinstance(x, da.Array) else None
    x = np.asarray(x)
    assert announced is None or announced == (x.shape, x.dtype)
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "svdvals": (dsd.svdvals, ds.svdvals),
    "opnorm": (dsd.opnorm, ds.opnorm),
    "nuclear_norm": (dsd.nuclear_norm, ds.nuclear_norm),
    "pinv": (dsd.pinv, ds.pinv),
    "low_rank": (lambda a: dsd.low_rank(a, 2), lambda a: ds.low_rank(a, 2)),
}


@EACH
@DTYPES
@pytest.mark.parametrize(("f", "reference"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_chunks_do_not_matter(
    f: Any, reference: Any, shape: tuple[int, ...], chunks: Any, dtype: str, rng: np.random.Generator
) -> None:
    a = matrix(rng, shape, dtype)
    close(f(da.from_array(a, chunks=chunks)), reference(a))


@pytest.mark.parametrize(
    ("shape", "chunks"), [((0, 3), (1, 3)), ((3, 0), (1, 1)), ((5, 0, 3), (2, 0, 3)), ((0, 2, 3), (1, 2, 3))], ids=str
)
def test_empty_matrices(shape: tuple[int, ...], chunks: Any) -> None:
    a = da.zeros(shape, chunks=chunks)
    for name, (f, reference) in FUNCTIONS.items():
        if name != "opnorm" or 0 not in shape[-2:]:
            close(f(a), reference(np.zeros(shape)))
    for x, y in zip(dsd.svd(a), ds.svd(np.zeros(shape))):
        close(x, y)


@EACH
@DTYPES
def test_factors_multiply_to_the_matrix(
    shape: tuple[int, ...], chunks: Any, dtype: str, rng: np.random.Generator
) -> None:
    a = matrix(rng, shape, dtype)
    U, S, Vh = dsd.svd(da.from_array(a, chunks=chunks))
    close((U * S[..., None, :]) @ Vh, a)
    close(S, ds.svdvals(a))
    identity = np.broadcast_to(np.eye(min(shape[-2:])), (*shape[:-2], *2 * (min(shape[-2:]),)))
    close(da.conj(da.swapaxes(U, -1, -2)) @ U, identity)
    close(Vh @ da.conj(da.swapaxes(Vh, -1, -2)), identity)


def test_polar_factors_of_blocks_of_rows(rng: np.random.Generator) -> None:
    a = matrix(rng, (40, 3), "complex128")
    for mine, want in zip(dsd.polar(da.from_array(a, chunks=(10, 3))), ds.polar(a)):
        close(mine, want)


# ---------------------------------------------------------------------------------------------------------------------
# Both modes


@EACH
def test_the_pushforward_is_dualsvd_s(shape: tuple[int, ...], chunks: Any, rng: np.random.Generator) -> None:
    a, dA = matrix(rng, shape), matrix(rng, shape)
    y = dsd.svd(da.from_array(a, chunks=chunks))
    got = dsd.svd_pushforward(*y, da.from_array(dA, chunks=shape))  # which may lie in other chunks
    for mine, want in zip(got, ds.svd_pushforward(*(np.asarray(x) for x in y), dA)):
        close(mine, want, 1e-12)


@EACH
def test_the_pullback_is_dualsvd_s(shape: tuple[int, ...], chunks: Any, rng: np.random.Generator) -> None:
    a = matrix(rng, shape)
    y = dsd.svd(da.from_array(a, chunks=chunks))
    bars = [rng.standard_normal(x.shape) for x in y]
    got = dsd.svd_pullback(*y, *(da.from_array(bar, chunks=x.chunks) for x, bar in zip(y, bars)))
    close(got, ds.svd_pullback(*(np.asarray(x) for x in y), *bars), 1e-12)


@EACH
def test_directions_and_cotangents_may_be_numpy_s(
    shape: tuple[int, ...], chunks: Any, rng: np.random.Generator
) -> None:
    a, dA = matrix(rng, shape), matrix(rng, shape)
    y = dsd.svd(da.from_array(a, chunks=chunks))
    bars = [rng.standard_normal(x.shape) for x in y]
    for mine, want in zip(dsd.svd_pushforward(*y, dA), dsd.svd_pushforward(*y, da.from_array(dA))):
        close(mine, np.asarray(want))
    close(dsd.svd_pullback(*y, *bars), np.asarray(dsd.svd_pullback(*y, *map(da.from_array, bars))))


def test_both_modes_are_adjoint_over_the_cluster(rng: np.random.Generator) -> None:
    a, dA = (da.from_array(matrix(rng, (50, 4)), chunks=(9, 4)) for _ in range(2))
    y = dsd.svd(a)
    bars = [da.from_array(rng.standard_normal(x.shape), chunks=x.chunks) for x in y]
    forward = sum(da.sum(bar * dx) for bar, dx in zip(bars, dsd.svd_pushforward(*y, dA)))
    close(forward, da.sum(dsd.svd_pullback(*y, *bars) * dA).compute(), 1e-12)


def test_the_gradient_of_the_spectral_norm_of_a_tall_matrix(rng: np.random.Generator) -> None:
    a = matrix(rng, (60, 4))
    U, S, Vh = dsd.svd(da.from_array(a, chunks=(13, 4)))
    gradient = dsd.svd_pullback(U, S, Vh, None, da.from_array(np.eye(4)[0]))
    assert gradient.chunks == U.chunks
    close(gradient, ds.gradient(ds.opnorm, a))


TIES = {"repeated values": np.eye(12, 3), "a zero value": np.eye(12, 3) * [2.0, 1.0, 0.0], "zero": np.zeros((12, 3))}


@pytest.mark.parametrize("a", TIES.values(), ids=TIES)
def test_slopes_are_one_sided_at_ties_and_zeros(a: np.ndarray, rng: np.random.Generator) -> None:
    """Also where the direction leaves the range of the matrix."""
    dA = rng.standard_normal(a.shape)
    y = dsd.svd(da.from_array(a, chunks=(4, 3)))
    _, dS, _ = dsd.svd_pushforward(*y, da.from_array(dA, chunks=(4, 3)))
    close(dS, ds.jvp(ds.svdvals, (a,), (dA,))[1])


def test_a_cotangent_that_depends_on_the_basis_is_refused() -> None:
    y = dsd.svd(da.from_array(np.eye(12, 3), chunks=(4, 3)))
    U_bar = np.zeros((12, 3))
    U_bar[0, 1] = 1.0
    with pytest.raises(ds.GaugeError, match="use polar"):
        dsd.svd_pullback(*y, da.from_array(U_bar, chunks=(4, 3))).compute()


# ---------------------------------------------------------------------------------------------------------------------
# The house rules


def test_nothing_is_computed_before_it_is_asked_for(rng: np.random.Generator) -> None:
    def forbidden(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed too early")

    a = da.from_array(matrix(rng, (40, 3)), chunks=(10, 3)).map_blocks(forbidden, meta=np.empty((0, 0)))
    U, S, Vh = dsd.svd(a)
    dsd.svd_pushforward(U, S, Vh, a)
    with pytest.raises(AssertionError, match="too early"):
        S.compute()


def test_threads_of_dask_share_the_kernels(rng: np.random.Generator) -> None:
    a = matrix(rng, (600, 3, 3))
    s = dsd.svdvals(da.from_array(a, chunks=(100, 3, 3)))
    close(s.compute(scheduler="threads", num_workers=4), np.linalg.svd(a, compute_uv=False))


def test_settings_go_with_the_call_and_to_other_processes() -> None:
    from dualsvd.interop.maps import Function

    with ds.options(nonfinite="propagate"):
        norms = dsd.opnorm(da.from_array(np.stack([np.eye(2), np.full((2, 2), np.nan)]), chunks=(1, 2, 2)))
        f = Function(ds.opnorm)
    close(norms, [1.0, np.nan])
    assert pickle.loads(pickle.dumps(f)) == f


REFUSED = {
    "blocks both ways": (lambda: da.ones((20, 20), chunks=(5, 5)), ds.ShapeError, "rechunk it with"),
    "a stack of blocks": (lambda: da.ones((2, 20, 3), chunks=(1, 5, 3)), ds.ShapeError, "whole in their chunks"),
    "a vector": (lambda: da.ones(3), ds.ShapeError, "at least 2 axes"),
    "a NumPy array": (lambda: np.ones((3, 3)), ds.ShapeError, "must be a Dask array"),
    "half precision": (lambda: da.ones((3, 3), dtype="float16"), ds.DTypeError, "float16"),
    "half precision in blocks": (lambda: da.ones((9, 3), chunks=(3, 3), dtype="float16"), ds.DTypeError, "float16"),
    "rows of unknown number": (lambda: _positive(da.ones((9, 3), chunks=(3, 3))), ds.ShapeError, "compute_chunk_sizes"),
}


def _positive(a: Any) -> Any:
    return a[a[:, 0] > 0]


@pytest.mark.parametrize(("a", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_bad_input_is_told_at_the_call(a: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        dsd.svdvals(a())


MISUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a rank below zero": (lambda a: dsd.low_rank(a, -1), r"3 are all\), got -1"),
    "a cutoff for each row": (lambda a: dsd.pinv(a, np.ones(12)), "one number"),
    "two directions": (lambda a: dsd.svd_pushforward(*dsd.svd(a), da.ones((2, 12, 3))), r"got shapes .*\(2, 12, 3\)"),
    "a short direction": (lambda a: dsd.svd_pushforward(*dsd.svd(a), da.ones((11, 3))), r"got shapes .*\(11, 3\)"),
    "a short cotangent": (lambda a: dsd.svd_pullback(*dsd.svd(a), da.ones((11, 3))), r"got shapes .*\(11, 3\)"),
}


@pytest.mark.parametrize(("shape", "chunks"), [((8, 4, 3), (2, 4, 3)), ((40, 3), (10, 3))], ids=["stack", "blocks"])
def test_errors_name_places_in_a_chunk(shape: tuple[int, ...], chunks: Any) -> None:
    a = np.ones(shape)
    a[-1] = np.nan
    with pytest.raises(ds.NonFiniteError, match=r"^in a chunk .*in the small factor.*must be finite, got nan at \("):
        dsd.svdvals(da.from_array(a, chunks=chunks)).compute()


@pytest.mark.parametrize("lies", [{-1: -1}, {}], ids=["one of them cut", "both of them cut"])
def test_the_first_triplets_are_not_the_factors(lies: Any) -> None:
    """Which Dask itself has for matrices that are large both ways."""
    a = da.ones((40, 20), chunks=(10, 20))
    U, S, Vh = da.ones((40, 2), chunks=(10, 2)), da.ones(2), da.ones((2, 20), chunks=(2, 5)).rechunk(lies)
    for call in (lambda: dsd.svd_pushforward(U, S, Vh, a), lambda: dsd.svd_pullback(U, S, Vh, None, S)):
        with pytest.raises(ds.ShapeError, match=r"got \(40, 2\), \(2,\) and \(2, 20\).*S_bar"):
            call()


@pytest.mark.parametrize(("call", "match"), MISUSED.values(), ids=MISUSED)
def test_misuse_is_told(call: Callable[[Any], Any], match: str) -> None:
    with pytest.raises(ds.ShapeError, match=match):
        call(da.ones((12, 3), chunks=(4, 3)))
