"""dualsvd's functions as primitives of HIPS autograd."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dualsvd as ds

autograd = pytest.importorskip("autograd", reason="autograd is not installed")
anp = pytest.importorskip("autograd.numpy")
dsa = importlib.import_module("dualsvd.interop.autograd")

# Each is summed with weights, so that every entry of its result counts.
FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "svdvals": (dsa.svdvals, ds.svdvals),
    "opnorm": (dsa.opnorm, ds.opnorm),
    "nuclear_norm": (dsa.nuclear_norm, ds.nuclear_norm),
    "norm of order 2": (lambda a: dsa.norm(a, 2), lambda a: ds.norm(a, 2)),
    "norm of order -2": (lambda a: dsa.norm(a, -2), lambda a: ds.norm(a, -2)),
    "norm of order 1": (lambda a: dsa.norm(a, 1), lambda a: ds.norm(a, 1)),
    "Schatten norm": (lambda a: dsa.norm(a, ("schatten", 3)), lambda a: ds.norm(a, ("schatten", 3))),
    "cond": (dsa.cond, ds.cond),
    "pinv": (dsa.pinv, ds.pinv),
    "pinv with a cutoff": (lambda a: dsa.pinv(a, np.array(0.1)), lambda a: ds.pinv(a, 0.1)),
    "unitary polar factor": (lambda a: dsa.polar(a).unitary, lambda a: ds.polar(a).unitary),
    "low_rank": (lambda a: dsa.low_rank(a, 1), lambda a: ds.low_rank(a, 1)),
    "range_projector": (lambda a: dsa.range_projector(a, 1), lambda a: ds.range_projector(a, 1)),
    "svd": (lambda a: _dyad(dsa.svd(a)), lambda a: _dyad(ds.svd(a))),
}
EACH = pytest.mark.parametrize(("f", "reference"), FUNCTIONS.values(), ids=FUNCTIONS)


def _dyad(y: Any) -> Any:
    return y.U[:, :1] * y.Vh[:1, :]


def weighed(f: Callable[..., Any], numpy: Any) -> Callable[..., Any]:
    """f as a scalar function: the sum of its entries, each with a weight of its own."""

    def scalar(a: Any) -> Any:
        y = numpy.ravel(f(a))
        return numpy.sum(y * np.cos(np.arange(y.shape[0])))

    return scalar


def close(x: Any, y: Any, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


@EACH
def test_gradients_are_dualsvd_s(f: Any, reference: Any, rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 2))
    close(autograd.grad(weighed(f, anp))(a), ds.gradient(weighed(reference, np), a))


@EACH
def test_tangents_are_dualsvd_s(f: Any, reference: Any, rng: np.random.Generator) -> None:
    a, da = rng.standard_normal((2, 3, 2))
    y, dy = autograd.make_jvp(f)(a)(da)
    want, dwant = ds.jvp(reference, (a,), (da,))
    close(y, want)
    close(dy, dwant)


@EACH
def test_hessians_are_dualsvd_s(f: Any, reference: Any, rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 2))
    close(autograd.hessian(weighed(f, anp))(a), ds.hessian(weighed(reference, np), a), 1e-11)


def test_forward_mode_over_reverse_mode(rng: np.random.Generator) -> None:
    a, v = rng.standard_normal((2, 3, 2))
    close(autograd.make_jvp(autograd.grad(dsa.opnorm))(a)(v)[1], ds.hvp(ds.opnorm, a, v), 1e-12)


def test_complex_gradients_have_autograd_s_convention(rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2))
    close(autograd.grad(dsa.opnorm)(a), np.conj(ds.gradient(ds.opnorm, a)))
    # the same convention as that of autograd's own functions
    close(autograd.grad(lambda a: dsa.norm(a, "fro"))(a), autograd.grad(lambda a: anp.linalg.norm(a))(a))


def test_batches_are_the_loop(rng: np.random.Generator) -> None:
    a = rng.standard_normal((4, 3, 2))
    close(
        autograd.grad(lambda a: anp.sum(dsa.opnorm(a)))(a),
        np.stack([autograd.grad(dsa.opnorm)(one) for one in a]),
    )


def test_ties_and_zeros_are_exact() -> None:
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    close(autograd.make_jvp(dsa.svdvals)(np.eye(2))(swap)[1], [1.0, -1.0])
    close(autograd.grad(dsa.nuclear_norm)(np.eye(3)), np.eye(3))
    close(autograd.grad(dsa.opnorm)(np.zeros((3, 2))), np.zeros((3, 2)))
    close(autograd.hessian(dsa.nuclear_norm)(np.eye(2)), ds.hessian(ds.nuclear_norm, np.eye(2)))
    with pytest.raises(ds.GaugeError, match="use polar"):
        autograd.grad(lambda a: dsa.svd(a).U[0, 1])(np.eye(2))


def test_a_part_of_svd_may_stay_unused(rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 2))
    close(autograd.grad(lambda a: dsa.svd(a).S[0])(a), ds.gradient(ds.opnorm, a))


def test_plain_arrays_give_plain_results(rng: np.random.Generator) -> None:
    a = rng.standard_normal((3, 2)).astype(np.float32)
    U, S, Vh = dsa.svd(a)
    close((U * S) @ Vh, a, 1e-5)
    assert S.dtype == np.float32 and autograd.grad(dsa.opnorm)(a).dtype == np.float32
