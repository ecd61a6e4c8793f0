"""Algorithms as people write them, with pivots, swaps, views and buffers: all ways to a derivative agree."""

from __future__ import annotations

import numpy as np
import pytest

import dualsvd as ds


def determinant(x):
    """Gaussian elimination with pivots."""
    A, sign = x.reshape(4, 4) * 1.0, 1.0
    for k in range(4):
        p = k + int(np.argmax(np.abs(A[k:, k])))
        if p != k:
            A[[k, p]] = A[[p, k]]
            sign = -sign
        for i in range(k + 1, 4):
            A[i] -= A[i, k] / A[k, k] * A[k]
    return sign * np.prod(np.diag(A))


def gram_schmidt(x):
    A = x.reshape(4, 4)
    Q = np.zeros_like(A)
    for j in range(4):
        v = A[:, j].copy()
        for i in range(j):
            v -= (Q[:, i] @ A[:, j]) * Q[:, i]
        Q[:, j] = v / np.linalg.norm(v)
    return np.sum(Q * np.arange(16.0).reshape(4, 4))


def cholesky(x):
    B = x.reshape(4, 4)
    S = B @ B.T + np.eye(4)
    L = np.zeros_like(S)
    for i in range(4):
        for j in range(i + 1):
            s = S[i, j] - L[i, :j] @ L[j, :j]
            L[i, j] = np.sqrt(s) if i == j else s / L[j, j]
    return np.sum(L**3)


def householder(x):
    A = x.reshape(4, 4).copy()
    for k in range(3):
        v = A[k:, k].copy()
        v[0] += np.sign(v[0]) * np.linalg.norm(v)
        v /= np.linalg.norm(v)
        A[k:, k:] -= 2 * np.outer(v, v @ A[k:, k:])
    return np.sum(np.triu(A) ** 3)


def power_iteration(x):
    A, v = x.reshape(4, 4), np.ones(4)
    A = A + A.T
    for _ in range(20):
        v = A @ v
        v /= np.linalg.norm(v)
    return v @ A @ v


def rotations(x):
    A = x.reshape(4, 4)
    A = A + A.T
    for p in range(3):
        for q in range(p + 1, 4):
            angle = 0.5 * np.arctan2(2 * A[p, q], A[q, q] - A[p, p] + 0.1)
            R = np.zeros_like(A)
            R[...] = np.eye(4)
            R[p, p] = R[q, q] = np.cos(angle)
            R[p, q] = np.sin(angle)
            R[q, p] = -R[p, q]
            A = R.T @ A @ R
    return np.sum(np.diag(A) ** 3)


def bubble_sort(x):
    z = x.copy()
    for i in range(len(z)):
        for j in range(len(z) - 1 - i):
            if z[j] > z[j + 1]:
                z[j], z[j + 1] = z[j + 1], z[j]
    return z @ np.sin(np.arange(len(z)))


def moving_average(x):
    out, mean = np.empty_like(x), x[0]
    for i in range(len(x)):
        mean *= 0.9
        mean += 0.1 * x[i]
        out[i] = mean
    return np.sum(out**2)


def recurrent_network(x):
    W, h, states = x.reshape(4, 4), np.zeros(4), []
    signal = np.zeros(4)
    for t in range(5):
        signal[:] = np.sin(np.arange(4) + t)
        h = np.tanh(W @ h + signal)
        states.append(h)
    return np.sum(np.stack(states) ** 2)


def windows(x):
    total = 0.0
    for i in range(len(x) - 3):
        w = x[i : i + 3]
        total += np.prod(w) - np.median(w) * np.var(w)
    return total


def stencil(x):
    u = x.reshape(4, 4).copy()
    for _ in range(3):
        u[1:-1, 1:-1] = 0.25 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2])
        u[0] = u[1]
        u[:, -1] *= 0.5
    return np.sum(u**2)


def overlapping_views(x):
    y = x.copy()
    y[1:] += y[:-1]
    y[::2] *= y[1::2]
    y[...] = y[::-1]
    return np.cumsum(y) @ np.cumprod(np.abs(y) ** 0.1)


ALGORITHMS = (
    determinant,
    gram_schmidt,
    cholesky,
    householder,
    power_iteration,
    rotations,
    bubble_sort,
    moving_average,
    recurrent_network,
    windows,
    stencil,
    overlapping_views,
)
STEP = 1e-6  # of central differences: their error, and so the tolerance, is some 1e-10 of the size of f


@pytest.mark.parametrize("f", ALGORITHMS)
def test_all_ways_agree(f, rng):
    x, v = np.random.default_rng(0).standard_normal(16), rng.standard_normal(16)
    slopes = np.array([(f(x + STEP * e) - f(x - STEP * e)) / (2 * STEP) for e in np.eye(16)])
    forward, reverse = (ds.gradient(f, x, mode=mode) for mode in ("forward", "reverse"))
    size = 1 + np.abs(slopes).max()
    np.testing.assert_allclose(forward, slopes, rtol=1e-5, atol=1e-6 * size)
    np.testing.assert_allclose(reverse, forward, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(ds.linearize(f, x)[1](v), forward @ v, rtol=0, atol=1e-11 * size)
    np.testing.assert_allclose(ds.jvp(f, (x,), (v,))[1], forward @ v, rtol=0, atol=1e-11 * size)


@pytest.mark.parametrize("f", ALGORITHMS)
def test_all_ways_to_second_derivatives_agree(f, rng):
    x, v = np.random.default_rng(0).standard_normal(16), rng.standard_normal(16)
    differences = (ds.gradient(f, x + STEP * v) - ds.gradient(f, x - STEP * v)) / (2 * STEP)
    size = 1 + np.abs(differences).max()
    expected = ds.hvp(f, x, v)
    np.testing.assert_allclose(expected, differences, rtol=0, atol=1e-5 * size)
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ds.hessian(f, x, mode=mode) @ v, expected, rtol=0, atol=1e-9 * size)
