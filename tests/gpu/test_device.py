"""What `dualsvd.cuda` promises, on whichever device there is (see conftest.py).

On a machine with an NVIDIA GPU this is the whole test of it:

    python -m pytest tests/gpu
"""

from __future__ import annotations

import gc
import warnings

import cases
import numpy as np
import pytest

import dualsvd as ds
from dualsvd.__main__ import main
from dualsvd.cuda import batches, validation
from dualsvd.cuda.validation import gauge_free, paired
from dualsvd.kernels import cpu

from .conftest import SIMULATED
from .families import batch

#: Rounding of a factorisation, and of a product of its factors, in units of max(m, n) eps.
FACTOR = 10.0
#: Tangents carried through the sweeps lose up to two digits (notes/jacobi.md).
CARRIED = 2000.0

# Shape, type and number of matrices, for threads and for blocks. The simulator takes seconds for a block's matrix.
FEW = [(3, 3, "float64", 14), (2, 4, "float64", 14), (7, 6, "float64", 2), (3, 2, "complex128", 14)]
MANY = [
    (3, 3, "float64", 300),
    (2, 4, "float64", 300),
    (5, 5, "float64", 120),
    (6, 6, "float64", 70),
    (9, 5, "float64", 60),
    (3, 2, "complex128", 300),
    (5, 7, "complex128", 60),
]
MORE = [
    (1, 1, "float64", 100),
    (7, 1, "float64", 100),
    (4, 4, "float64", 300),
    (17, 33, "float64", 20),
    (64, 40, "float64", 2),
    (64, 64, "float64", 1),
    (3, 3, "float32", 300),
    (8, 8, "float32", 120),
    (12, 8, "float32", 60),
    (2, 2, "complex64", 300),
    (6, 6, "complex64", 70),
    (6, 4, "complex64", 60),
    (3, 3, "complex128", 300),
    (4, 4, "complex128", 120),
]


def shapes():
    def parameter(m, n, dtype, count, *marks):
        return pytest.param(m, n, dtype, count, id=f"{count} of {m}x{n} {dtype}", marks=marks)

    few, slow = [parameter(*x) for x in FEW], [parameter(*x, pytest.mark.slow) for x in MORE]
    return few if SIMULATED else [parameter(*x) for x in MANY] + slow


def sized(x):
    """The largest singular value of each matrix, to measure errors by."""
    top = cpu.svdvals(np.ascontiguousarray(x))[0][:, 0].astype(float)
    return np.where(top > 0, top, 1.0)


def bound(a, factor=FACTOR):
    return factor * max(a.shape[-2:]) * float(np.finfo(a.dtype).eps)


def per_matrix(x):
    return np.max(np.abs(x), axis=tuple(range(1, x.ndim)), initial=0.0)


def check(errors, names, limit):
    worst = int(np.argmax(errors))
    assert np.all(errors <= limit), f"{names[worst]} (matrix {worst}): {errors[worst]:.1e} > {limit:.1e}"


def product(U, S, Vh, scale):
    return (U * (S / scale[:, None])[..., None, :]) @ Vh


@pytest.mark.parametrize(("m", "n", "dtype", "count"), shapes())
class TestFamilies:
    def test_factors(self, m, n, dtype, count, device):
        a, _, names = batch(m, n, dtype, count)
        U, S, Vh = ds.cuda.svd(a)
        scale, limit = sized(a), bound(a)
        assert S.dtype == a.real.dtype and U.dtype == Vh.dtype == a.dtype
        check(per_matrix(product(U, S, Vh, scale) - a / scale[:, None, None]), names, limit)
        identity = np.eye(min(m, n))
        check(per_matrix(np.conj(U.swapaxes(1, 2)) @ U - identity), names, limit)
        check(per_matrix(Vh @ np.conj(Vh.swapaxes(1, 2)) - identity), names, limit)
        assert np.all(np.diff(S, axis=1) <= 0) and np.all(S >= 0)

    def test_values_alone_equal_the_cpu(self, m, n, dtype, count, device):
        a, _, names = batch(m, n, dtype, count)
        S, expected = ds.cuda.svdvals(a), cpu.svdvals(a)[0]
        check(per_matrix(S / sized(a)[:, None] - expected / sized(a)[:, None]), names, bound(a))
        graded = np.array([name == "graded columns" for name in names])
        np.testing.assert_allclose(S[graded], expected[graded], rtol=bound(a))

    def test_closed_form_equals_the_cpu(self, m, n, dtype, count, device):
        a, da, names = batch(m, n, dtype, count)
        dU, dS, dVh = ds.cuda.svd_jvp(a, da)
        U, S, Vh, _ = cpu.svd(a)
        (eU, _, eVh), _ = cpu.svd_pushforward(U, S, Vh, da[None])  # zero quotients at ties
        slopes = ds.svdvals(ds.DualArray(a, da[None])).partials[0]
        scale, size = sized(a), sized(da)
        check(per_matrix(dS / size[:, None] - slopes / size[:, None]) * ease(a, names), names, bound(a, 10 * FACTOR))
        simple = [k for k, name in enumerate(names) if name == "generic"]
        gap = conditions(a)
        for x, e in ((dU, eU[0]), (dVh, eVh[0])):
            errors = per_matrix((x - e) * (scale / size / gap**2)[:, None, None])
            check(errors[simple], ["generic"] * len(simple), bound(a, 10 * FACTOR))

    def test_adjoint_is_the_transpose(self, m, n, dtype, count, device):
        a, da, names = batch(m, n, dtype, count)
        simple = [k for k, name in enumerate(names) if name == "generic"]
        a, da = a[simple], da[simple]
        y = ds.cuda.svd(a)
        dy = ds.cuda.svd_jvp(a, da)
        rng = np.random.default_rng(count)
        bars = gauge_free(y, *(rng.standard_normal(x.shape).astype(x.dtype) for x in y))
        A_bar = ds.cuda.svd_vjp(a, *bars)
        forward, backward = paired(bars, dy), paired((A_bar,), (da,))
        sizes = np.sqrt(paired(bars, bars) * paired(dy, dy))
        sizes = np.where(sizes > 0, sizes, 1)
        check(np.abs(forward - backward) / sizes / conditions(a), ["generic"] * len(simple), bound(a))

    def test_dual_sweeps_give_the_factors_of_the_moving_matrix(self, m, n, dtype, count, device):
        if dtype.startswith("complex"):
            pytest.skip("tangents are carried for reals only")
        a, da, names = batch(m, n, dtype, count)
        da = np.stack([da, np.roll(da, 1, axis=2)])
        U, S, Vh = ds.cuda.svd_dual(ds.DualArray(a, da))
        scale, size = sized(a), sized(da[0])
        check(per_matrix(product(U.value, S.value, Vh.value, scale) - a / scale[:, None, None]), names, bound(a))
        # d(U S Vh) = dA along the first direction, whatever basis a tie took
        whole = product(U.partials[0], S.value, Vh.value, size) + product(U.value, S.value, Vh.partials[0], size)
        whole = whole + product(U.value, S.partials[0], Vh.value, size)
        errors = per_matrix(whole - da[0] / size[:, None, None])
        check(errors * ease(a, names), names, bound(a, CARRIED))
        expected = ds.svdvals(ds.DualArray(a, da)).partials
        check(per_matrix((S.partials[0] - expected[0]) / size[:, None]) * ease(a, names), names, bound(a, CARRIED))


def ease(a, names):
    """Close values cost their derivatives s_1 / gap in digits: taken off where values are close and not tied."""
    close = np.isin(names, ("clustered", "hilbert"))
    return np.where(close, 1 / conditions(a), 1.0)


def conditions(a):
    return validation.conditions(ds.cuda.svdvals(a), a.shape[1] != a.shape[2])


def test_several_directions_equal_one_at_a_time(device):
    a, da, names = batch(3, 3, "float64", 17)
    generic = np.array(names) == "generic"
    a, many = a[generic], np.stack([np.roll(da[generic], k, axis=1) for k in range(3)])
    together = ds.cuda.svd_jvp(a, many)
    for k in range(3):
        for x, y in zip(together, ds.cuda.svd_jvp(a, many[k])):
            np.testing.assert_array_equal(x[k], y)


@pytest.mark.parametrize("size", [3, 7], ids=["a thread", "a block"])
def test_a_matrix_that_is_not_finite_leaves_its_neighbours_alone(size, device):
    a, _, _ = batch(size, size, "float64", 4)
    a[1, 0, 0], a[2, 1, 2] = np.nan, np.inf
    with pytest.raises(ds.NonFiniteError, match="in 2 of 4 matrices, first in matrix 1"):
        ds.cuda.svd(a)
    with ds.options(nonfinite="propagate"):
        U, S, Vh = ds.cuda.svd(a)
    bad = np.array([False, True, True, False])
    for x in (U, S, Vh):
        assert np.isnan(x[bad]).all() and np.isfinite(x[~bad]).all()
    for x, alone in zip((U, S, Vh), ds.cuda.svd(a[~bad])):  # the same kernel, so the same bits
        np.testing.assert_array_equal(x[~bad], alone)


@pytest.mark.skipif(SIMULATED, reason="the simulator takes minutes for full blocks")
@pytest.mark.parametrize("size", [3, 4], ids=["odd", "even"])
@pytest.mark.parametrize("count", [1, 63, 65], ids=["one", "one less than a block", "one more than a block"])
def test_a_block_that_is_not_full_gives_what_a_full_one_does(count, size, device):
    rng = np.random.default_rng(size)
    a, U_bar, Vh_bar = rng.standard_normal((3, 128, size, size))
    S_bar, da = rng.standard_normal((128, size)), rng.standard_normal((2, *a.shape))

    def results(some):
        moved = ds.cuda.svd_dual(ds.DualArray(a[some], da[:, some]))
        yield from (*ds.cuda.svd(a[some]), ds.cuda.svdvals(a[some]), *(x.value for x in moved))
        yield from (np.moveaxis(x, 1, 0) for x in ds.cuda.svd_jvp(a[some], da[:, some]))
        yield from (np.moveaxis(x.partials, 1, 0) for x in moved)
        yield ds.cuda.svd_vjp(a[some], U_bar[some], S_bar[some], Vh_bar[some])

    for x, expected in zip(results(slice(count)), results(slice(None))):
        np.testing.assert_array_equal(x, expected[:count])


def test_ties_speak_as_on_the_cpu(device):
    a, da = np.stack([np.diag([3.0, 2.0, 1.0]), np.eye(3)]), np.ones((2, 3, 3))
    dS = ds.cuda.svd_jvp(a, da)[1]
    np.testing.assert_allclose(dS, [[1.0, 1.0, 1.0], [3.0, 0.0, 0.0]], atol=1e-14)
    with (
        ds.options(ties="raise"),
        pytest.raises(ds.DegenerateError, match=r"sigma_1 = 1 and sigma_2 = 1 .* of matrix 1"),
    ):
        ds.cuda.svd_jvp(a, da)
    with pytest.raises(ds.GaugeError):
        ds.cuda.svd_vjp(a, np.arange(18.0).reshape(2, 3, 3), None, None)
    np.testing.assert_allclose(ds.cuda.svd_vjp(a, None, np.ones((2, 3)), None), [np.eye(3)] * 2, atol=1e-15)
    with pytest.raises(ds.GaugeError, match="phase"):
        ds.cuda.svd_vjp(np.diag([2.0, 1.0j])[None], np.full((1, 2, 2), 1j), None, None)


@pytest.mark.parametrize("size", [4, 8])  # a thread's matrix and a team's
def test_noise_below_the_tie_counts_as_zero(size, device):
    """The cotangent of a projector on the vectors of two zeros: their sum is above the tie, and yet nothing to divide
    by. Eight matrices, for in some of them what it would divide is exactly zero."""
    rng, S = np.random.default_rng(0), np.linspace(2.0, 1.0, size)
    S[-2:] = np.array([1.6, 1.4]) * 8 * size * np.finfo(float).eps  # of a tie of 2
    U, V = (np.linalg.qr(rng.standard_normal((8, size, size)))[0] for _ in range(2))
    a, C = (U * S) @ V.swapaxes(1, 2), rng.standard_normal((8, size, size))
    C += C.swapaxes(1, 2)
    with ds.options(ties="subspace"):
        y = ds.cuda.svd(a)
        U_bar = np.zeros_like(a)
        U_bar[..., -2:] = 2 * C @ y.U[..., -2:]
        expected = [ds.linalg.svd_pullback(*x, None, None) for x in zip(*y, U_bar)]  # by the rule, not by kernels
        # rounding of the vectors times the cotangent, over the gaps between the values, 1 / size at least
        bound = 1e3 * size * np.finfo(float).eps * np.abs(C).max()
        np.testing.assert_allclose(ds.cuda.svd_vjp(a, U_bar, None, None), expected, rtol=0, atol=bound)


def test_every_call_tells_of_matrices_that_are_not_finite(device):
    a = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    calls = (
        lambda: ds.cuda.svdvals(a),
        lambda: ds.cuda.svd_jvp(a, a[:1].repeat(2, 0)),
        lambda: ds.cuda.svd_vjp(a, None, np.ones((2, 3)), None),
        lambda: ds.cuda.svd_dual(ds.DualArray(a, a[None])),
    )
    for call in calls:
        with pytest.raises(ds.NonFiniteError, match="in 1 of 2 matrices, first in matrix 1"):
            call()
    with ds.options(nonfinite="propagate"):
        S, (_, dS, _) = ds.cuda.svdvals(a), ds.cuda.svd_jvp(a, a[:1].repeat(2, 0))
        moved = ds.cuda.svd_dual(ds.DualArray(a, a[None, :1].repeat(2, 1)))
        pulled = ds.cuda.svd_vjp(a, None, np.ones((2, 3)), None)
    for x in (S, dS, moved.S.value, moved.S.partials[0], pulled):
        assert np.isfinite(x[0]).all() and np.isnan(x[1]).all()


def test_arrays_on_the_device_stay_there(device):
    from numba import cuda

    a, da, _ = batch(3, 3, "float64", 14)
    on_device = ds.cuda.svd(cuda.to_device(a))
    for x, y in zip(on_device, ds.cuda.svd(a)):
        assert hasattr(x, "copy_to_host")
        np.testing.assert_array_equal(x.copy_to_host(), y)
    moved = ds.cuda.svd_jvp(cuda.to_device(a), cuda.to_device(da))
    for x, y in zip(moved, ds.cuda.svd_jvp(a, da)):
        np.testing.assert_array_equal(x.copy_to_host(), y)


def test_values_of_tied_matrices_need_no_report(device, monkeypatch):
    from numba import cuda

    def fetch(*arguments):
        raise AssertionError("a report came to the host")

    monkeypatch.setattr(batches, "fetch", fetch)
    ties = cuda.to_device(np.stack([np.eye(3)] * 2))
    np.testing.assert_array_equal(ds.cuda.svdvals(ties).copy_to_host(), np.ones((2, 3)))


class Foreign:
    """An array of another library: all that is known of it is the interface."""

    def __init__(self, x, **changes):
        self.owner, self.__cuda_array_interface__ = x, x.__cuda_array_interface__ | changes


@pytest.mark.skipif(SIMULATED, reason="the simulator's arrays are NumPy's")
def test_arrays_of_other_libraries_are_taken(device):
    from numba import cuda

    a, da, names = batch(3, 3, "float64", 20)
    generic = np.array(names) == "generic"
    a, da = a[generic], da[generic]
    x, dx = cuda.to_device(a), cuda.to_device(da)
    one_direction = Foreign(dx, shape=(1, *da.shape), strides=(0, *da.strides))
    for moved, y in zip(ds.cuda.svd_jvp(Foreign(x), one_direction), ds.cuda.svd_jvp(a, da)):
        np.testing.assert_array_equal(moved.copy_to_host()[0], y)
    y = ds.cuda.svd(Foreign(x, strides=a.strides))
    assert all("__cuda_array_interface__" in dir(part) for part in y)
    np.testing.assert_array_equal(ds.cuda.svd_vjp(Foreign(x), None, y.S, None).copy_to_host(),
                                  ds.cuda.svd_vjp(a, None, y.S.copy_to_host(), None))  # fmt: skip
    assert ds.cuda.cross_validate_device(Foreign(x)).passed
    with pytest.raises(ds.ShapeError, match="must be contiguous on the device, got strides"):
        ds.cuda.svd(Foreign(x, strides=(72, 8, 24)))


def test_a_stream_is_waited_for(device):
    """Results in NumPy are whole; those on the device are once the stream is."""
    from numba import cuda

    a, da, _ = batch(3, 3, "float64", 14)
    stream = cuda.stream()
    np.testing.assert_array_equal(ds.cuda.svdvals(a, stream=stream), ds.cuda.svdvals(a))
    moved = ds.cuda.svd_jvp(cuda.to_device(a, stream=stream), cuda.to_device(da, stream=stream), stream=stream)
    stream.synchronize()
    for x, y in zip(moved, ds.cuda.svd_jvp(a, da)):
        np.testing.assert_array_equal(x.copy_to_host(), y)


def test_a_batch_too_large_for_the_memory_is_cut(device, driver, monkeypatch):
    from numba import cuda

    if device != "executed PTX":
        pytest.skip("a device's memory cannot be made small")

    def leave(room: int) -> None:
        gc.collect()  # or what waits to be freed, of tests before too, would make more room later
        cuda.current_context().memory_manager.deallocations.clear()
        monkeypatch.setattr(driver, "capacity", driver.taken() + room)

    a, da, _ = batch(3, 3, "float64", 60)
    whole = ds.cuda.svd_jvp(a, da), ds.cuda.svd_dual(ds.DualArray(a, da[None])), ds.cuda.svd(a)
    leave(12000)  # of some 35000 that they take together
    cut = ds.cuda.svd_jvp(a, da), ds.cuda.svd_dual(ds.DualArray(a, da[None])), ds.cuda.svd(a)
    for x, y in zip(cut[0] + cut[2], whole[0] + whole[2]):
        np.testing.assert_array_equal(x, y)
    for x, y in zip(cut[1], whole[1]):
        np.testing.assert_array_equal(x.value, y.value)
        np.testing.assert_array_equal(x.partials, y.partials)
    many = np.zeros((100, 1, 3, 3))
    with pytest.raises(MemoryError, match=r"does not hold a batch of 1 with its directions .* pass fewer directions"):
        ds.cuda.svd_jvp(a[:1], many)
    resident = cuda.to_device(a)
    leave(2000)
    with pytest.raises(MemoryError, match=r"does not hold a batch of 60 .* NumPy arrays, which are taken in parts"):
        ds.cuda.svd(resident)


@pytest.mark.slow
def test_where_shared_memory_is_too_small_teams_work_in_global_memory(device, monkeypatch):
    if device != "executed PTX":
        pytest.skip("a device says itself how much shared memory it has")
    from dualsvd.kernels.cuda import launches as kernels

    a, da, names = batch(7, 7, "float64", 70)
    y, dy, moved = ds.cuda.svd(a), ds.cuda.svd_jvp(a, da), ds.cuda.svd_dual(ds.DualArray(a, da[None]))
    bars = (np.ones_like(y.U), np.ones_like(y.S), np.ones_like(y.Vh))
    generic = np.array(names) == "generic"
    pulled = ds.cuda.svd_vjp(a[generic], *(x[generic] for x in bars))
    monkeypatch.setattr(kernels, "shared_limit", lambda: 256)
    monkeypatch.setattr(kernels, "WORKSPACE_BYTES", 2**14)  # for a few blocks at a time
    assert kernels.plan("svd", "float64", 7, 7, 0, 256).workspace > 0
    for x, expected in zip(ds.cuda.svd(a), y):
        np.testing.assert_array_equal(x, expected)
    for x, expected in zip(ds.cuda.svd_jvp(a, da), dy):
        np.testing.assert_array_equal(x, expected)
    for x, expected in zip(ds.cuda.svd_dual(ds.DualArray(a, da[None])), moved):
        np.testing.assert_array_equal(x.partials, expected.partials)
    np.testing.assert_array_equal(ds.cuda.svd_vjp(a[generic], *(x[generic] for x in bars)), pulled)


def test_the_order_of_bytes_does_not_matter(device):
    a, da, _ = batch(3, 3, "float64", 14)
    for x, expected in zip(ds.cuda.svd_jvp(a.astype(">f8"), da.astype(">f8")), ds.cuda.svd_jvp(a, da)):
        np.testing.assert_array_equal(x, expected)


def test_a_small_batch_is_no_reason_to_warn(device, monkeypatch):
    from dualsvd.kernels.cuda import launches

    class Warns:  # as numba-cuda does, in colour where that is installed
        def __getitem__(self, configuration):
            warnings.warn("\x1b[1mGrid size 1 will likely result in GPU under-utilization\x1b[0m", stacklevel=2)

    monkeypatch.setattr(launches, "compiled", lambda kernel, registers: Warns())
    launches.launcher(None, 1, 32)


def test_nothing_to_do_needs_no_launch(device):
    for shape in ((0, 3, 3), (2, 0, 3), (2, 3, 0)):
        U, S, Vh = ds.cuda.svd(np.zeros(shape))
        r = min(shape[1:])
        assert U.shape == (shape[0], shape[1], r) and S.shape == (shape[0], r) and Vh.shape == (shape[0], r, shape[2])
        assert ds.cuda.svd_vjp(np.zeros(shape), U, S, Vh).shape == shape


def test_without_a_direction_the_factors_are_still_found(device):
    a, _, _ = batch(3, 3, "float64", 14)
    none = np.empty((0, *a.shape))
    for x, expected in zip(ds.cuda.svd_dual(ds.DualArray(a, none)), ds.cuda.svd(a)):
        np.testing.assert_array_equal(x.value, expected)
        assert x.partials.shape == (0, *expected.shape)
    for dx, expected in zip(ds.cuda.svd_jvp(a, none), ds.cuda.svd(a)):
        assert dx.shape == (0, *expected.shape)


def test_the_device_validates_itself(device):
    a, _, _ = batch(3, 3, "float64", 14)
    report = ds.cuda.cross_validate_device(a)
    assert report.passed, str(report)
    assert len(report.rows) == 9 and "have a tie" in str(report)
    assert ds.cuda.cross_validate_device(np.arange(6.0).reshape(3, 2) ** 2, rng=3).passed


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_device_validates_itself_on_matrices_of_any_size(scale, device):
    report = ds.cuda.cross_validate_device(scale * np.random.default_rng(1).standard_normal((4, 3, 3)))
    assert report.passed, str(report)
    assert report.rows[3].name.startswith("<y_bar") and report.rows[3].error > 0  # compared, and not 0 / inf


@pytest.mark.parametrize(
    "a",
    [
        cases.spectrum(3, 3, [1.0, 0.7, 1e-6]),
        cases.spectrum(3, 3, [1.0, 1.0 - 1e-6, 0.3]),
        np.random.default_rng(461).standard_normal((8, 8)),
    ],
    ids=["a small value", "two close values", "two columns close to a tie in a sweep"],
)
def test_the_device_validates_itself_on_ill_conditioned_matrices(a, device):
    """Right computations differ more there, above all of tangents that went through the sweeps."""
    report = ds.cuda.cross_validate_device(a)
    assert report.passed, str(report)


@pytest.mark.parametrize("factor", [0.0, 1.0 + 1e-9, np.nan])
@pytest.mark.parametrize(("kernel", "part"), [("pushforward", k) for k in range(3)] + [("dual", k) for k in range(6)])
def test_a_wrong_kernel_does_not_pass(kernel, part, factor, device, monkeypatch):
    """Each result in turn is off, of matrices as the manual draws them."""
    from numba import cuda

    from dualsvd.kernels import cuda as kernels

    right = getattr(kernels, kernel)

    def wrong(*arguments):
        results = list(right(*arguments))
        results[part] = cuda.to_device(results[part].copy_to_host() * factor)
        return tuple(results)

    monkeypatch.setattr(kernels, kernel, wrong)
    assert not ds.cuda.cross_validate_device(np.random.default_rng(0).standard_normal((3, 3, 3))).passed


def test_the_command_checks_the_device(device, tmp_path, capsys):
    a = np.random.default_rng(0).standard_normal((3, 3))
    np.save(tmp_path / "matrix.npy", a)
    assert main(["check", "--device", "cuda", str(tmp_path / "matrix.npy")]) == 0
    assert "<y_bar, J v>, <J^T y_bar, v> on the device" in capsys.readouterr().out
    np.save(tmp_path / "large.npy", np.zeros((65, 3)))
    assert main(["check", "--device", "cuda", str(tmp_path / "large.npy")]) == 2
    assert "at most 64 rows and columns, got 65 x 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ds.cuda.svd(np.zeros((3, 3))), ds.ShapeError, r"must have 3 axes, a batch of matrices"),
        (lambda: ds.cuda.svd(np.zeros((1, 65, 2))), ds.ShapeError, "at most 64 rows and columns, got 65 x 2"),
        (lambda: ds.cuda.svd(np.zeros((1, 2, 2), np.float16)), ds.DTypeError, "float16"),
        (lambda: ds.cuda.svd(np.array([[["x"]]])), ds.DTypeError, "must hold float32"),
        (lambda: ds.cuda.svd(ds.DualArray(np.ones((1, 2, 2)), np.ones((1, 1, 2, 2)))), ds.DTypeError, "svd_dual"),
        (lambda: ds.cuda.svd_dual(np.ones((1, 2, 2))), ds.DTypeError, "takes a DualArray, got ndarray"),
        (lambda: ds.cuda.svd_jvp(np.ones((1, 2, 2)), np.ones((1, 2, 3))), ds.ShapeError, "da must have the shape"),
        (
            lambda: ds.cuda.svd_jvp(np.ones((1, 2, 2)), np.ones((1, 2, 2), "f4")),
            ds.DTypeError,
            "type float64 of its partner",
        ),
        (lambda: ds.cuda.svd_vjp(np.ones((1, 2, 2)), None, np.ones((1, 3)), None), ds.ShapeError, "S_bar must have"),
        (lambda: ds.cuda.cross_validate_device(np.ones((0, 2, 2))), ds.ShapeError, "nothing to compare"),
    ],
    ids=[
        "no batch",
        "too large",
        "float16",
        "strings",
        "traced",
        "not traced",
        "direction",
        "types",
        "cotangent",
        "no matrix",
    ],
)
def test_wrong_input_is_told(call, error, message, device):
    with pytest.raises(error, match=message):
        call()
