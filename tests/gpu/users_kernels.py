"""Kernels as a user would write them, over `Dual` and the pieces of the Jacobi method.

Each is a loop body, a plain function over flat scratch arrays, and runs unchanged in `@njit`, in the CUDA simulator and
on a device. Beside it stands the closed form of its derivative in NumPy.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from dualsvd import Dual
from dualsvd.cuda import Kind, buffer, converge, follow, primal_columns

DUAL, REAL = Kind("float64", (1,)), Kind("float64")
N, SWEEPS = 3, 30
SQUARE = N * N

#: Scratch of `polar`, in float64 numbers.
SCRATCH = 2 * SQUARE * 2 + 2 * N + SQUARE + N + 2


@register_jitable
def polar(A, scratch):
    """The orthogonal factor U V^T of a 3 x 3 dual matrix A (column after column), in its place; returns tr S."""
    V, S = buffer(scratch[: 2 * SQUARE], DUAL), buffer(scratch[2 * SQUARE : 2 * SQUARE + 2 * N], DUAL)
    row = buffer(scratch[2 * SQUARE + 2 * N : 4 * SQUARE + 2 * N], DUAL)
    rest = scratch[4 * SQUARE + 2 * N :]
    U0, S0, info = (
        buffer(rest[:SQUARE], REAL),
        buffer(rest[SQUARE : SQUARE + N], REAL),
        buffer(rest[SQUARE + N :], REAL),
    )
    for k in range(SQUARE):
        V[k] = 1.0 if k % (N + 1) == 0 else 0.0
    converge(A, V, S, info, N, N, N, SWEEPS)
    primal_columns(A, U0, S0, N, N)
    follow(A, V, S, U0, S0, N, N, False)
    for i in range(N):
        for j in range(N):
            row[j * N + i] = A[i] * V[j] + A[N + i] * V[N + j] + A[2 * N + i] * V[2 * N + j]
    for k in range(SQUARE):
        A[k] = row[k]
    return S[0] + S[1] + S[2]


# ---- corotated elasticity: the energy of a deformation gradient


MU, LAMBDA = 0.8, 1.5


@register_jitable
def elastic_energy(F, dF, energy, a, scratch):
    """psi = mu |F - R|^2 + lambda/2 (tr(R^T F) - 3)^2, R the rotation of F, and its derivative along dF."""
    A = buffer(a, DUAL)
    for i in range(N):
        for j in range(N):
            A[j * N + i] = Dual(F[i, j], (dF[i, j],))
    trace = polar(A, scratch)
    distance = Dual(0.0, (0.0,))
    for i in range(N):
        for j in range(N):
            difference = Dual(F[i, j], (dF[i, j],)) - A[j * N + i]
            distance = distance + difference * difference
    psi = MU * distance + 0.5 * LAMBDA * (trace - 3.0) ** 2
    energy[0], energy[1] = psi.value, psi.partials[0]


def elastic_energy_in_closed_form(F, dF):
    U, S, Vh = np.linalg.svd(F)
    R = U @ Vh
    stretch = S.sum(1) - 3.0
    stress = 2 * MU * (F - R) + LAMBDA * stretch[:, None, None] * R
    energy = MU * np.sum((F - R) ** 2, axis=(1, 2)) + 0.5 * LAMBDA * stretch**2
    return np.stack([energy, np.sum(stress * dF, axis=(1, 2))], axis=1)


# ---- Procrustes: the orthogonal matrix that turns one set of points into another


@register_jitable
def procrustes(X, Y, dX, R, dR, a, scratch):
    """The orthogonal R nearest to turning the points X into Y (rows), and its derivative along dX."""
    A = buffer(a, DUAL)
    for i in range(N):
        for j in range(N):
            total = Dual(0.0, (0.0,))
            for k in range(X.shape[0]):
                total = total + Dual(X[k, i], (dX[k, i],)) * Y[k, j]
            A[j * N + i] = total
    polar(A, scratch)
    for i in range(N):
        for j in range(N):
            R[i, j], dR[i, j] = A[j * N + i].value, A[j * N + i].partials[0]


def procrustes_in_closed_form(X, Y, dX):
    U, S, Vh = np.linalg.svd(np.swapaxes(X, 1, 2) @ Y)
    M = np.swapaxes(U, 1, 2) @ np.swapaxes(dX, 1, 2) @ Y @ np.swapaxes(Vh, 1, 2)
    return U @ Vh, U @ ((M - np.swapaxes(M, 1, 2)) / (S[:, :, None] + S[:, None, :])) @ Vh


# ---- Newton's method on Kepler's equation E - e sin E = M


@register_jitable
def kepler(mean, eccentricity, anomaly):
    """The eccentric anomaly E and its derivatives by M and by e."""
    M, e = Dual(mean, (1.0, 0.0)), Dual(eccentricity, (0.0, 1.0))
    E = M + e * np.sin(M)
    for _ in range(8):  # quadratic: the partials are exact one step after the value
        E = E - (E - e * np.sin(E) - M) / (1.0 - e * np.cos(E))
    anomaly[0], anomaly[1], anomaly[2] = E.value, E.partials[0], E.partials[1]


def kepler_in_closed_form(mean, eccentricity):
    E = mean + eccentricity * np.sin(mean)
    for _ in range(50):
        E = E - (E - eccentricity * np.sin(E) - mean) / (1 - eccentricity * np.cos(E))
    slope = 1 / (1 - eccentricity * np.cos(E))
    return np.stack([E, slope, np.sin(E) * slope], axis=1)
