"""Matrices in Matrix Market format: Boisvert, Pozo and Remington, NISTIR 5935 (1996).

scipy.io.mmread reads it too, but drops what follows a number in its line (of 1.0D+02 and 1,5 it leaves 1), takes a
symmetric matrix of 2 x 3, and ends the process at some damaged files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

#: numbers as C writes them, or with the exponent of Fortran (1.0D+02)
REAL = rb"[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[ed][+-]?\d+)?|inf(?:inity)?|nan)"
INTEGER, NATURAL = rb"[+-]?\d+", rb"\d+"
#: what stands in the line of sizes, in a line before the value, and as the value
SIZES = {
    "array": {"the number of rows": NATURAL, "of columns": NATURAL},
    "coordinate": {"the number of rows": NATURAL, "of columns": NATURAL, "of entries": NATURAL},
}
PLACES: dict[str, dict[str, bytes]] = {"array": {}, "coordinate": {"a row": NATURAL, "a column": NATURAL}}
FIELDS = {
    "real": {"a number": REAL},
    "double": {"a number": REAL},
    "complex": {"a real part": REAL, "an imaginary part": REAL},
    "integer": {"a whole number": INTEGER},
    "unsigned-integer": {"a whole number": NATURAL},
    "pattern": {},
}
#: from an entry that the file holds to the one across the diagonal, which it does not
MIRRORS: dict[str, Callable[[Any], Any]] = {
    "symmetric": np.positive,
    "skew-symmetric": np.negative,
    "hermitian": np.conj,
}
SYMMETRIES = ("general", *MIRRORS)
#: how a matrix takes entries: a place that coordinates name twice holds their sum
PUT: dict[str, Callable[[Any, Any, Any], None]] = {"array": np.ndarray.__setitem__, "coordinate": np.add.at}


def _one_of(words: Iterable[str]) -> bytes:
    return rb"[ \t]+(" + "|".join(words).encode() + rb")"


#: the banner, comments and blank lines; possessive, so that no number of lines needs memory
HEAD = re.compile(
    rb"(?:\xef\xbb\xbf)?%%?MatrixMarket[ \t]+matrix"
    + _one_of(SIZES)
    + _one_of(FIELDS)
    + _one_of(SYMMETRIES)
    + rb"[ \t]*\r?(?:\n|\Z)(?:[ \t]*(?:%[^\n]*|\r)?\n)*+",
    re.IGNORECASE,
)


def parse(text: bytes) -> np.ndarray:
    """The matrix in double precision, real or complex, its zeros filled in.

    Raises ValueError: what was expected and what came, with the line where one is wrong.
    """
    head = HEAD.match(text)
    if head is None:
        raise ValueError(
            'line 1: expected a banner such as "%%MatrixMarket matrix array real general", got '
            + _quoted(text.partition(b"\n")[0])
        )
    form, field, symmetry = (word.decode().lower() for word in head.groups())
    if (form, field) == ("array", "pattern"):
        raise ValueError("line 1: an array has values, expected their field, such as real, got pattern")
    line = 1 + text.count(b"\n", 0, head.end())
    end = text.find(b"\n", head.end()) + 1 or len(text)
    sizes = _numbers(text[head.end() : end], SIZES[form], line)
    if not len(sizes):
        raise ValueError("the file ends before the line that says how large the matrix is")
    rows, columns, *counts = map(int, sizes[0])
    if symmetry != "general" and rows != columns:
        raise ValueError(f"line {line}: a {symmetry} matrix is square, and this one has {rows} x {columns} entries")
    if form == "array":  # of a symmetric one the lower triangle
        counts = [rows * columns if symmetry == "general" else rows * (rows + 1) // 2]
        if symmetry == "skew-symmetric":  # without its diagonal, which is zero
            counts[0] -= rows

    table = _numbers(text[end:], PLACES[form] | FIELDS[field], line + 1)
    if len(table) != counts[0]:
        raise ValueError(f"line {line}: expected {counts[0]} entries behind it, got {len(table)}")
    if form == "array":  # column after column
        first = {"general": -columns, "skew-symmetric": 1}.get(symmetry, 0)
        j, i = np.triu_indices(columns, first, rows)
    else:
        i, j = _places(table[:, :2], rows, columns)
    parts = np.ascontiguousarray(table[:, len(PLACES[form]) :])
    values = np.ones(len(table)) if field == "pattern" else parts.view(complex if field == "complex" else float)[:, 0]
    a = np.zeros((rows, columns), values.dtype)
    PUT[form](a, (i, j), values)
    if symmetry != "general":
        _refuse_pairs(i, j, symmetry)
        off = i != j
        PUT[form](a, (j[off], i[off]), MIRRORS[symmetry](values[off]))
    return a


def _numbers(text: bytes, kinds: Mapping[str, bytes], line: int) -> np.ndarray:
    """(lines, kinds): the numbers of lines that hold one of each kind, or nothing; the first of them is `line`."""
    row = rb"[ \t]+".join(kinds.values())
    wrong = re.search(rb"^(?![ \t]*(?:" + row + rb"[ \t]*)?\r?$).*", text, re.MULTILINE | re.IGNORECASE)
    if wrong:
        line += text.count(b"\n", 0, wrong.start())
        raise ValueError(f"line {line}: expected {', '.join(kinds)}, got {_quoted(wrong[0])}")
    if not text.strip():
        return np.zeros((0, len(kinds)))
    return np.fromstring(text.translate(bytes.maketrans(b"Dd", b"ee")), sep=" ").reshape(-1, len(kinds))


def _places(table: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Rows and columns, counted from zero."""
    outside = np.flatnonzero(np.any((table < 1) | (table > [rows, columns]), axis=1))
    if len(outside):
        i, j = table[outside[0]]
        raise ValueError(
            f"entry {outside[0] + 1}: expected a row from 1 to {rows} and a column from 1 to {columns}, got row "
            f"{i:.0f}, column {j:.0f}"
        )
    return table.T.astype(np.intp) - 1


def _refuse_pairs(i: np.ndarray, j: np.ndarray, symmetry: str) -> None:
    """Of two entries across the diagonal one follows from the other: if both were added they would count twice."""
    below, above = i > j, i < j
    n = 1 + int(max(np.max(i, initial=0), np.max(j, initial=0)))
    twice = np.intersect1d(i[below] * n + j[below], j[above] * n + i[above])
    if len(twice):
        i_, j_ = 1 + np.array(divmod(int(twice[0]), n))
        raise ValueError(
            f"expected one triangle of a {symmetry} matrix, got the entries ({i_}, {j_}) and ({j_}, {i_}); leave one "
            "of them out, or write general into line 1"
        )


def _quoted(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace").rstrip("\r"))
