"""A user's own kernels, differentiated in `@njit`, and on whichever device there is, equal their closed forms."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from . import toolchain

pytest.importorskip("numba_cuda", reason=toolchain.missing() or "")

from numba import cuda, float64, njit

from dualsvd import Dual

from .users_kernels import (
    SCRATCH,
    SQUARE,
    elastic_energy,
    elastic_energy_in_closed_form,
    kepler,
    kepler_in_closed_form,
    procrustes,
    procrustes_in_closed_form,
)

ROOT = Path(__file__).parents[2]
BATCH, POINTS, THREADS = 40, 7, 32
AGREEMENT = 1e-12
DOUBLE = 2 * SQUARE


# ---- the loops around the bodies


@njit
def energies_njit(F, dF, out):
    for b in range(len(F)):
        elastic_energy(F[b], dF[b], out[b], np.empty(DOUBLE), np.empty(SCRATCH))


def energies_cuda(F, dF, out):
    b = cuda.grid(1)
    if b < F.shape[0]:
        elastic_energy(F[b], dF[b], out[b], cuda.local.array(DOUBLE, float64), cuda.local.array(SCRATCH, float64))


@njit
def rotations_njit(X, Y, dX, R, dR):
    for b in range(len(X)):
        procrustes(X[b], Y[b], dX[b], R[b], dR[b], np.empty(DOUBLE), np.empty(SCRATCH))


def rotations_cuda(X, Y, dX, R, dR):
    b = cuda.grid(1)
    if b < X.shape[0]:
        scratch = cuda.local.array(SCRATCH, float64)
        procrustes(X[b], Y[b], dX[b], R[b], dR[b], cuda.local.array(DOUBLE, float64), scratch)


@njit
def anomalies_njit(mean, eccentricity, out):
    for b in range(len(mean)):
        kepler(mean[b], eccentricity[b], out[b])


def anomalies_cuda(mean, eccentricity, out):
    b = cuda.grid(1)
    if b < mean.shape[0]:
        kepler(mean[b], eccentricity[b], out[b])


def quotients_cuda(x, y, out):
    b = cuda.grid(1)
    if b < x.shape[0]:
        a = Dual(x[b], (1.0,))
        out[b, 0], out[b, 1] = (a % y[b]).value, (a // y[b]).value


# ---- what they are given, and the truth


def gradients(rng):
    """Deformation gradients, some of them undeformed or uniformly stretched: all values tied."""
    F = np.eye(3) + 0.4 * rng.standard_normal((BATCH, 3, 3))
    F = F * np.where(np.linalg.det(F) < 0, -1.0, 1.0)[:, None, None]
    F[0], F[1], F[2] = np.eye(3), 2 * np.eye(3), np.diag([1.5, 1.0, 1.5])
    dF = rng.standard_normal((BATCH, 3, 3))
    return (F, dF), (np.zeros((BATCH, 2)),), (elastic_energy_in_closed_form(F, dF),)


def point_sets(rng):
    X, dX = rng.standard_normal((2, BATCH, POINTS, 3))
    Y = X @ np.linalg.qr(rng.standard_normal((BATCH, 3, 3)))[0] + 0.05 * rng.standard_normal((BATCH, POINTS, 3))
    return (X, Y, dX), (np.zeros((BATCH, 3, 3)), np.zeros((BATCH, 3, 3))), procrustes_in_closed_form(X, Y, dX)


def orbits(rng):
    mean, eccentricity = rng.uniform(-3, 3, BATCH), rng.uniform(0, 0.9, BATCH)
    return (mean, eccentricity), (np.zeros((BATCH, 3)),), (kepler_in_closed_form(mean, eccentricity),)


USERS = {
    "elastic energy of deformation gradients": (gradients, energies_njit, energies_cuda),
    "batched Procrustes": (point_sets, rotations_njit, rotations_cuda),
    "Newton on Kepler's equation": (orbits, anomalies_njit, anomalies_cuda),
}


@pytest.mark.parametrize("user", USERS)
def test_in_njit(user, rng):
    make, loop, _ = USERS[user]
    inputs, outputs, truth = make(rng)
    loop(*inputs, *outputs)
    for x, expected in zip(outputs, truth):
        np.testing.assert_allclose(x, expected, rtol=AGREEMENT, atol=AGREEMENT)


@pytest.mark.parametrize("user", USERS)
def test_on_the_device(user, rng, device):
    from dualsvd.kernels.cuda import launcher

    make, _, kernel = USERS[user]
    inputs, outputs, truth = make(rng)
    on_device = [cuda.to_device(x) for x in outputs]
    launcher(kernel, -(-BATCH // THREADS), THREADS)(*map(cuda.to_device, inputs), *on_device)
    for x, expected in zip(on_device, truth):
        np.testing.assert_allclose(x.copy_to_host(), expected, rtol=AGREEMENT, atol=AGREEMENT)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # of NumPy, in the simulator
def test_remainders_are_exact(device):
    """CUDA's own come from a rounded quotient: 1.0 % 0.1 would be 0."""
    from dualsvd.kernels.cuda import launcher

    x = np.array([1.0, 1e15, 7.25, -3.5, 7.0, -1.0, 1.0, 1.0])
    y = np.array([0.1, 3.0, 0.1, np.inf, -2.0, -0.3, 1e-300, 0.0])
    out = cuda.to_device(np.zeros((len(x), 2)))
    launcher(quotients_cuda, 1, THREADS)(cuda.to_device(x), cuda.to_device(y), out)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(out.copy_to_host(), np.stack([x % y, x // y], axis=1))


IN_A_FRESH_PROCESS = """
import pathlib, sys
import numpy as np
from numba import cuda
if not cuda.is_available():
    from gpu.driver import load
    load(pathlib.Path(sys.argv[1]))
exec(sys.argv[2])
anomaly = cuda.to_device(np.zeros((2, 3)))
kepler[1, 32](cuda.to_device(np.array([1.0, 2.0])), cuda.to_device(np.array([0.5, 0.25])), anomaly)
print(*anomaly.copy_to_host().ravel())
"""


def test_the_kernel_of_the_notes_needs_nothing_before_it(device, tmp_path):
    """Numba loads extensions when `njit` compiles, not when `cuda.jit` does: here nothing else has been compiled."""
    notes = (ROOT / "notes" / "cuda.md").read_text()
    (kernel,) = (block for block in re.findall("```python\n(.*?)```", notes, re.DOTALL) if "@cuda.jit" in block)
    command = [sys.executable, "-W", "ignore", "-c", IN_A_FRESH_PROCESS, str(tmp_path), kernel]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "tests"), *sys.path]))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    expected = kepler_in_closed_form(np.array([1.0, 2.0]), np.array([0.5, 0.25])).ravel()
    np.testing.assert_allclose([float(x) for x in done.stdout.split()], expected, rtol=AGREEMENT)
