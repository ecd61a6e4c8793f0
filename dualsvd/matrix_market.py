"""What is wrong with a file in Matrix Market format (Boisvert, Pozo and Remington, NISTIR 5935, 1996), before SciPy
reads it.

scipy.io.mmread drops what follows a number in its line (of 1.0D+02 and 1,5 it leaves 1), takes a symmetric matrix of
2 x 3, and ends the process at some damaged files. So every line is looked at here first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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
SYMMETRIES = ("general", "symmetric", "skew-symmetric", "hermitian")


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


def checked(text: bytes) -> bytes:
    """The same text without what SciPy does not know.

    Raises ValueError: what was expected and what came, with the line.
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
    sizes = _checked_lines(text[head.end() : end], SIZES[form], line)
    if not sizes:
        raise ValueError("the file ends before the line that says how large the matrix is")
    rows, columns, *counts = map(int, sizes.split())
    if symmetry != "general" and rows != columns:
        raise ValueError(f"line {line}: a {symmetry} matrix is square, and this one has {rows} x {columns} entries")
    if 0 in (rows, columns):
        raise ValueError(f"line {line}: expected a matrix with entries, got shape ({rows}, {columns})")
    if form == "array":  # of a symmetric one the lower triangle, of a skew one without its diagonal, which is zero
        counts = [rows * columns if symmetry == "general" else rows * (rows + 1) // 2]
        counts[0] -= rows * (symmetry == "skew-symmetric")
    entries = _checked_lines(text[end:], PLACES[form] | FIELDS[field], line + 1)
    found = len(re.findall(rb"^[ \t]*[^\s]", entries, re.MULTILINE))
    if found != counts[0]:
        raise ValueError(f"line {line}: expected {counts[0]} entries behind it, got {found}")
    banner = f"%%MatrixMarket matrix {form} {field} {symmetry}\n".encode() + b"%\n" * (line - 2)
    return banner + sizes + b"\n" + _as_c_writes(entries) + b"\n"


def _checked_lines(text: bytes, kinds: Mapping[str, bytes], line: int) -> bytes:
    """The lines themselves, if each is blank or holds one number of each kind; the first of them is `line`."""
    row = rb"[ \t]+".join(kinds.values())
    wrong = re.search(rb"^(?![ \t]*(?:" + row + rb"[ \t]*)?\r?$).*", text, re.MULTILINE | re.IGNORECASE)
    if wrong:
        line += text.count(b"\n", 0, wrong.start())
        raise ValueError(f"line {line}: expected {', '.join(kinds)}, got {_quoted(wrong[0])}")
    return text.replace(b"\r", b"").rstrip()


def _as_c_writes(numbers: bytes) -> bytes:
    """No exponent of Fortran and no plus before a number, which SciPy's reader does not know."""
    return re.sub(rb"(?<!e)\+", b"", numbers.translate(bytes.maketrans(b"DdE", b"eee")))


def _quoted(line: bytes) -> str:
    return repr(line[:60].decode(errors="replace").rstrip("\r"))
