"""A user's own kernels, differentiated in `@njit`, and on whichever device there is, equal their closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from . import toolchain

pytest.importorskip("numba_cuda", reason=toolchain.missing() or "")

from numba import cuda, float64, njit

from .users_kernels import (
    SCRATCH,
    SQUARE,
    elastic_energy,
    elastic_energy_in_closed_form,
    kepler,
from dualsvd import Dual

    kepler_in_closed_form,
    procrustes,
    procrustes_in_closed_form,
)

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


# ---- what they are given, and the truth


def gradients(rng):
    """Deformation gradients, some of them undeformed or uniformly stretched: all values tied."""
    F = np.eye(3) + 0.4 * rng.standard_normal((BATCH, 3, 3))
    F = F * np.where(np.linalg.det(F) < 0, -1.0, 1.0)[:, None, None]
def quotients_cuda(x, y, out):
    b = cuda.grid(1)
    if b < x.shape[0]:
        a = Dual(x[b], (1.0,))
        out[b, 0], out[b, 1] = (a % y[b]).value, (a // y[b]).value


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
