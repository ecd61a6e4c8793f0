"""Functions of singular values that are smooth where the decomposition is not: exact through ties, at every order.

F(A) = U f(S) V^H does not depend on the choice of U and V at a tie, and its derivatives need not either. With
M = U^H D V, Sy and Sk its Hermitian and skew-Hermitian parts, R = D V - U M and R' = D^H U - V M^H (Noferini 2017):

    U^H dF V = Sy o f[s_i, s_j] + Sk o f[s_i, -s_j],     dF = ... + R diag(f[s_i, 0]) V^H + U diag(f[s_i, 0]) R'^H   (1)

F is the gradient of the sum of Phi(s_i), Phi' = f. So the k-th derivative is a symmetric multilinear map: it is its own
transpose in every argument, and its derivative is the (k+1)-st. That makes ONE rule for all orders and both modes:

    SPECTRAL(A, D_1 ... D_k) = D^k F(A) [D_1 ... D_k]
    along dA, dD_i:   SPECTRAL(A, D_1 ... D_k, dA) + sum_i SPECTRAL(A, D_1 .. dD_i .. D_k)
    transposed, W:    A_bar = SPECTRAL(A, D_1 ... D_k, W),   D_i_bar = SPECTRAL(A, D_1 .. W .. D_k)

and nothing ever differentiates U or V.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import DegenerateError
from ..rules.registry import Rule
from ..rules.structural import align
from ..settings import Options, get
from .degeneracy import largest_exponent, object_to, scaled, spectrum
from .divided_differences import DividedDifferences, Family, Kept, Nodes, UserFunction, Weighted
from .factorise import SVDResult, recall, remember, svd_factors, tail_of
from .matrices import adjoint, dyads, matrix_examples
from .tops import Tops, moved_dyads, top_dyads

#: Directions whose largest entries lie within 2^8 of one need no scaling, which is exact but takes time.
ORDER_ONE = 8
#: Coefficients of a path are gathered and summed over in slabs of about so many numbers, which stay in the cache.
SLAB = 1 << 18


def spectral_function_of(
    a: Any, *directions: Any, family: Family, factors: SVDResult | Tops | None = None, options: Options | None = None
) -> Any:
    """D^k F(A) [D_1 ... D_k] for plain arrays; `factors` may be `Tops` where F is the gradient of s_1, all simple."""
    options = options or get()
    if isinstance(factors, Tops):
        y = by_pairs(factors, a, directions)
        if y is not None:
            return remember(y, factors)
        factors = factors.factors(a, options)
    factors = factors or svd_factors(a, options)
    at = spectrum(factors.S, options, tail_of(factors.S, options))
    nodes = Nodes(family.nodes(factors.S, at), family.pieces(factors.S, at), at.tail)
    if not directions:
        y = dyads(factors.U, family.value(factors.S, nodes.piece).astype(factors.S.dtype), factors.Vh)
        return remember(y, factors)
    broken = family.broken(factors.S, at)
    if broken is not None:
        object_to(DegenerateError, broken, options)
    derivative = first_derivative if len(directions) == 1 else higher_derivative
    with np.errstate(invalid="ignore"):  # NaN stays in its matrix of the stack
        return remember(derivative(factors, nodes, directions, family), factors)


def by_pairs(tops: Tops, a: Any, directions: Any) -> Any:
    """The gradient of s_1 and its first derivative; None where all vectors are needed."""
    if len(directions) > 1:
        return None
    return moved_dyads(tops.pairs, a, directions[0]) if directions else top_dyads(tops.pairs, a)


def first_derivative(factors: SVDResult, nodes: Nodes, directions: Any, family: Family) -> Any:
    """Equation (1)."""
    U, _, Vh = factors
    (D,) = directions
    m, r = U.shape[-2:]
    n = Vh.shape[-1]
    f = DividedDifferences(family, nodes, 2, zero=m != n)
    same, opposite = (np.moveaxis(f[f.plus[:, None], other], (0, 1), (-2, -1)) for other in (f.plus, f.minus))
    UhD = adjoint(U) @ D
    M = UhD @ adjoint(Vh)
    half, flipped = M * 0.5, adjoint(M) * 0.5
    dF = U @ ((half + flipped) * same + (half - flipped) * opposite)
    if m != r or n != r:
        outer = np.moveaxis(f[f.plus, f.zero], 0, -1)
        if m > r:
            dF = dF + (D @ adjoint(Vh) - U @ M) * outer[..., None, :]
        else:
            return dF @ Vh + U @ ((UhD - M @ Vh) * outer[..., :, None])
    return dF @ Vh


def higher_derivative(factors: SVDResult, nodes: Nodes, directions: Any, family: Family) -> Any:
    """`sum_over_paths` of directions of one size: divided differences like 1 / s^k leave no room for a large one that a
    small one makes up for."""
    sizes = [largest_exponent(D) for D in directions]
    if all((np.abs(e) <= ORDER_ONE).all() for e in sizes):
        return sum_over_paths(factors, nodes, directions, family)
    mean = sum(sizes) // len(sizes)
    even = tuple(scaled(D, mean - e) for D, e in zip(directions, sizes))
    return scaled(sum_over_paths(factors, nodes, even, family), sum(sizes) - len(sizes) * mean)


def sum_over_paths(factors: SVDResult, nodes: Nodes, directions: Any, family: Family) -> Any:
    """The sum over all orders of the directions and all paths of eigenvectors of H = [[0, A], [A^H, 0]].

    Eigenvectors (u_i, +-v_i) / sqrt(2) are the nodes "r" of a path; the null space beyond them ("p": of the left
    vectors if A is tall, of the right ones if it is wide) is kept in the coordinates of the space itself.
    """
    U, _, Vh = factors
    (m, r), n = U.shape[-2:], Vh.shape[-1]
    edges = [edge_blocks(U, Vh, D) for D in directions]
    f = DividedDifferences(family, nodes, len(directions) + 1, zero=m != n)
    ends = [("r", "r")] + ([("p", "r")] if m > r else [("r", "p")] if n > r else [])
    total: Any = 0.0
    for first, last in ends:
        G: Any = 0.0
        for middle in itertools.product("rp" if m != n else "r", repeat=len(directions) - 1):
            path = "".join((first, *middle, last))
            if "pp" not in path:
                G = G + sum_over_path(path, edges, f)
        plus, minus = (slice(None, r), slice(r, None))
        if first == last:
            crossed = G[..., plus, minus]  # G[..., minus, plus] is its adjoint: what grows as 1 / s_r cancels exactly
            block = G[..., plus, plus] - G[..., minus, minus] + (adjoint(crossed) - crossed)
            total = total + 0.5 * (U @ block @ Vh)
        elif first == "p":
            total = total + np.sqrt(0.5) * (G[..., :, plus] - G[..., :, minus]) @ Vh
        else:
            total = total + np.sqrt(0.5) * (U @ (G[..., plus, :] + G[..., minus, :]))
    return total.astype(np.result_type(U, *directions), copy=False)


def edge_blocks(U: Any, Vh: Any, D: Any) -> dict[str, Any]:
    """[[0, D], [D^H, 0]] between the eigenvectors of H ("rr"), and from them to the null space ("pr" and "rp").

    The axes of the stack are behind, so that sums over the others run through memory in order.
    """
    V, r = adjoint(Vh), U.shape[-1]
    M = adjoint(U) @ D @ V
    Sy, Sk = (M + adjoint(M)) * 0.5, (M - adjoint(M)) * 0.5
    top, bottom = np.concatenate([Sy, -Sk], axis=-1), np.concatenate([Sk, -Sy], axis=-1)
    blocks = {"rr": np.concatenate([top, bottom], axis=-2)}
    if U.shape[-2] > r:
        R = D @ V - U @ M
        blocks["pr"] = np.sqrt(0.5) * np.concatenate([R, -R], axis=-1)
    elif V.shape[-2] > r:
        R = adjoint(D) @ U - V @ adjoint(M)
        blocks["pr"] = np.sqrt(0.5) * np.concatenate([R, R], axis=-1)
    if "pr" in blocks:
        blocks["rp"] = adjoint(blocks["pr"])
    return {name: np.ascontiguousarray(np.moveaxis(block, (-2, -1), (0, 1))) for name, block in blocks.items()}


def sum_over_path(path: str, edges: list[dict[str, Any]], f: DividedDifferences) -> Any:
    """sum over the inner nodes of f[x_0 ... x_k] (D_1)_01 (D_2)_12 ... , and over the orders of the directions."""
    k, both = len(path) - 1, np.concatenate([f.plus, f.minus])
    letters = "abcdefghij"[: k + 1]
    regular = [letter for letter, kind in zip(letters, path) if kind == "r"]
    subscripts = ["".join(regular), *(letters[i : i + 2] for i in range(k))]
    expression = ",".join(x + "..." for x in subscripts) + f"->{letters[0]}{letters[-1]}..."
    orders = [[block[path[i : i + 2]] for i, block in enumerate(order)] for order in itertools.permutations(edges)]
    slabs = [slice(None)]
    if path[0] == "r" and f.values.size:
        step = SLAB // (len(both) ** (len(regular) - 1) * f.values[0].size) + 1
        slabs = [slice(i, i + step) for i in range(0, len(both), step)]
    G = []
    for rows in slabs:
        coefficients = f[*np.ix_(both[rows], *[both] * (len(regular) - 1)), *[f.zero] * path.count("p")]
        G.append(sum(np.einsum(expression, coefficients, first[rows], *others) for first, *others in orders))
    return np.moveaxis(np.concatenate(G), (0, 1), (-2, -1))


def spectral_pushforward(
    y: Any, operands: Any, tangents: Any, *, family: Family, factors: Any = None, options: Options | None = None
) -> Any:
    params = {"family": family, "factors": factors or recall(y), "options": options or get()}
    return one_direction_more(SPECTRAL, y, operands, tangents, **params)


def one_direction_more(rule: Rule, y: Any, operands: Any, tangents: Any, **params: Any) -> Any:
    """The pushforward of a rule whose operands are a matrix and the directions of its derivatives: one more along dA,
    and linear in each direction."""
    a, *directions = operands
    dA, *slopes = (None if t is None else align(t, np.ndim(y)) for t in tangents)
    dy = None if dA is None else rule(a, *directions, dA, **params)
    for i, dD in enumerate(slopes):
        if dD is not None:
            term = rule(a, *directions[:i], dD, *directions[i + 1 :], **params)
            dy = term if dy is None else dy + term
    return dy


def spectral_pullback(
    y_bar: Any, y: Any, operands: Any, *, family: Family, factors: Any = None, options: Options | None = None
) -> tuple[Any, ...]:
    """The map is its own transpose in every argument."""
    a, *directions = operands
    params = {"family": family, "factors": factors or recall(y), "options": options or get()}

    def in_place_of(i: int) -> Any:
        return lambda: SPECTRAL(a, *directions[:i], y_bar, *directions[i + 1 :], **params)

    return (lambda: SPECTRAL(a, *directions, y_bar, **params)), *(in_place_of(i) for i in range(len(directions)))


def spectral_examples(rng: np.random.Generator) -> Iterator[Any]:
    families = (Kept("one"), Kept("inverse"), Kept("identity", "first", k=1), UserFunction(np.tanh, _sech_squared))
    for i, a in enumerate(matrix_examples(rng)):
        if min(a.shape[-2:]) > 1 or i % 2:
            yield (a,), {"family": families[i % 3 if min(a.shape[-2:]) > 1 else 1]}
    for shape in ((3, 2), (2, 3), (2, 2, 2)):
        a, D = rng.standard_normal((2, *shape))
        yield (a, D), {"family": families[3]}
        yield (a + 0.5j * D, D - 0.3j * a), {"family": families[0]}
        weighted = Weighted(rng.standard_normal((*shape[:-2], min(shape[-2:]))))
        yield (a + 0.5j * D,), {"family": weighted}
        yield (a, D), {"family": weighted}


def _sech_squared(s: Any) -> Any:
    return 1.0 / np.cosh(s) ** 2


SPECTRAL = Rule("spectral_function", spectral_function_of, spectral_pushforward, spectral_pullback, spectral_examples)
