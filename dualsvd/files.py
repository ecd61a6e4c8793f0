"""Matrices from files, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import signal
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from . import matrix_market
from .errors import BackendError, DTypeError, DualSVDError, NonFiniteError, ShapeError, in_one_line
from .rules.registry import as_inexact


class FileError(DualSVDError, ValueError):
    """A file that cannot be read or written, or is not what its name promises."""


class Matrix(NamedTuple):
    """An array from a file, under the name to call it by."""

    name: str
    array: np.ndarray


def read(path: str | os.PathLike[str]) -> list[Matrix]:
    """The matrices of a .npy, .npz, .csv or .mtx file: finite, of floating-point numbers, at least two axes each.

    A .csv file may be separated by commas, semicolons, tabs or blanks, and may begin with a line of column names. A
    .npz file may hold several matrices. More than two axes are a batch.

    Raises FileError, ShapeError, DTypeError or NonFiniteError, each naming the file; BackendError for a .mtx
    file where SciPy is missing.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(READERS)
        raise FileError(f"{path}: expected a {kinds} file, got {path.suffix or 'no extension'}")
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a directory; name the files in it")
        if not path.stat().st_size:
            raise FileError(f"{path}: the file is empty")
        arrays = reader(path)
    except DualSVDError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from None
    except (ValueError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: {in_one_line(error)}") from None
    except Exception as error:  # SyntaxError, zlib.error, NotImplementedError: whatever the modules behind NumPy raise
        what = f"{type(error).__name__}: {in_one_line(error)}"
        raise FileError(f"{path}: damaged, or not of the kind that NumPy writes ({what})") from None
    if not arrays:
        raise FileError(f"{path}: the file holds no array")
    return [Matrix(name, _checked(name, array)) for name, array in arrays]


def read_one(path: str | os.PathLike[str]) -> Matrix:
    """The only matrix of a file. Raises ShapeError where it holds several, a batch or more than one array."""
    matrices = read(path)
    if len(matrices) > 1:
        raise ShapeError(f"{path}: holds {len(matrices)} arrays, and one is needed; save it as a .npy file of its own")
    (matrix,) = matrices
    if matrix.array.ndim > 2:
        raise ShapeError(f"{path}: holds a batch of shape {matrix.array.shape}, and one matrix is needed")
    return matrix


def _checked(name: str, array: Any) -> np.ndarray:
    try:
        array = as_inexact(np.asarray(array), "it")
    except DTypeError as error:
        raise DTypeError(f"{name}: {error}") from None
    array = array.astype(array.dtype.newbyteorder("="), order="C", copy=False)
    if array.ndim < 2:
        raise ShapeError(
            f"{name}: a matrix has two axes, this array has shape {array.shape}; save it as array.reshape(1, -1) or "
            "array.reshape(-1, 1)"
        )
    if not array.size:
        raise ShapeError(f"{name}: the matrix has no entries, shape {array.shape}")
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        where = ", ".join(str(i) for i in bad[0])
        raise NonFiniteError(
            f"{name}: entry ({where}) is {array[tuple(bad[0])]}, and {len(bad)} of {array.size} entries are not "
            "finite; replace or remove them"
        )
    return array


# ---------------------------------------------------------------------------------------------------------------------
# One reader for each extension


def _read_npy(path: Path) -> list[tuple[str, Any]]:
    with path.open("rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise FileError(f"{path}: not a .npy file, its first bytes are not NumPy's")
        file.seek(0)
        return [(str(path), np.lib.format.read_array(file, allow_pickle=False))]


def _read_npz(path: Path) -> list[tuple[str, Any]]:
    if not zipfile.is_zipfile(path):
        raise FileError(f"{path}: not a .npz file, or one that was cut off")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return [(f"{path}:{key}", archive[key]) for key in archive.files]


def _read_csv(path: Path) -> list[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"{path}: not a text file") from None
    lines = [(k, line.strip()) for k, line in enumerate(text.splitlines(), 1)]
    lines = [(k, line) for k, line in lines if line and not line.startswith("#")]
    if not lines:
        raise FileError(f"{path}: the file holds no numbers")
    separator = next((s for s in (";", ",", "\t") if s in lines[0][1]), None)
    rows = [(k, [field.strip() for field in line.split(separator)]) for k, line in lines]
    if len(rows) > 1 and all(map(_is_name, rows[0][1])):
        del rows[0]  # the names of the columns
    width = len(rows[0][1])
    for k, fields in rows:
        if len(fields) != width:
            raise FileError(f"{path}: line {k} has {len(fields)} fields, the lines before it {width}")
    try:
        if any("_" in line or "\0" in line for _, line in lines[-len(rows) :]):
            raise ValueError  # for Python, and so for NumPy, 1_000 is a number; NumPy ends a text at NUL
        numbers = np.array([fields for _, fields in rows]).astype(np.float64)
    except ValueError:  # complex numbers, or a field to name
        numbers = np.array([[_field(path, k, j, f) for j, f in enumerate(fields, 1)] for k, fields in rows])
    return [(str(path), numbers)]


def _is_name(field: str) -> bool:
    """Whether a field may be the name of a column: nothing that begins like a number, perhaps one written otherwise."""
    return _number(field) is None and field.strip("\"'")[:1] not in tuple("0123456789+-.")


def _number(field: str) -> float | complex | None:
    """A number as files write it: not Python's 1_000, nor its j, which is the name of a column."""
    if "_" in field:
        return None
    with contextlib.suppress(ValueError):
        return float(field)
    with contextlib.suppress(ValueError):
        return complex(field) if any(map(str.isdigit, field)) else None
    return None


def _field(path: Path, line: int, column: int, field: str) -> float | complex:
    number = _number(field)
    if number is None:
        what = f"{field[:40]!r} is not a number" if field else "a number is missing"
        raise FileError(f"{path}: line {line}, column {column}: {what}")
    return number


def _read_mtx(path: Path) -> list[tuple[str, Any]]:
    try:
        from scipy.io import mmread
    except ImportError:
        raise BackendError(f"{path}: reading .mtx files needs SciPy: pip install 'dualsvd[cli]'") from None
    matrix = mmread(io.BytesIO(matrix_market.checked(path.read_bytes())))
    return [(str(path), matrix if isinstance(matrix, np.ndarray) else matrix.toarray())]


READERS: dict[str, Callable[[Path], list[tuple[str, Any]]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".mtx": _read_mtx,
}


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise FileError, before anything is computed, if no file can be written there."""
    path, folder = Path(path), _target(path).parent
    if path.is_dir():
        raise FileError(f"{path}: is a directory; name a file to write")
    if not folder.is_dir():
        raise FileError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{path}: the folder {folder} cannot be written to")


def _target(path: str | os.PathLike[str]) -> Path:
    """The file itself, where `path` is a link to it, or to where it will be."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary file beside `path` to write into: it takes that name when all went well, and vanishes when not.

    So it does when the process is asked to end. The mode of a file that was there stays, and so does a link to it.
    """
    check_writable(path)
    path = _target(path)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    with _ending_by_exit():
        try:
            if path.exists():
                temporary.touch(mode=0o600)  # nobody reads it before it has the mode of the old one
            yield temporary
            if path.exists():
                shutil.copymode(path, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


#: signals that ask a process to end, and would end it at once; not every system has both
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def _ending_by_exit() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, which passes every `finally`; not where they are handled otherwise."""

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    main = threading.current_thread() is threading.main_thread()  # only it may handle signals
    mine = [s for s in ENDING if main and signal.getsignal(s) is signal.SIG_DFL]
    try:
        for s in mine:
            signal.signal(s, leave)
        yield
    finally:
        for s in mine:
            signal.signal(s, signal.SIG_DFL)


def allocate(path: Path, shape: tuple[int, ...], dtype: Any) -> np.memmap:
    """An array on disk, in .npy format, to be filled piece by piece: it need not fit into memory.

    Raises FileError where the disk cannot hold it.
    """
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed > shutil.disk_usage(path.parent).free:
        raise FileError(
            f"the result has shape {shape} and takes {needed / 1e9:.3g} GB, more than the disk has left; "
            "choose a function with a smaller result, or a smaller matrix"
        )
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
