"""The command line on good files, on bad ones, and as a process of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import dualsvd as ds
from dualsvd import bench, commands, files, plots
from dualsvd.__main__ import main
from dualsvd.bench.machine import Limits
from dualsvd.validation import first, second

A = np.random.default_rng(3).standard_normal((6, 4))


def save(path: Path, a: np.ndarray) -> Path:
    """A matrix in the format that the file's name asks for."""
    match path.suffix:
        case ".npy":
            np.save(path, a)
        case ".npz":
            np.savez(path, a=a)
        case ".csv":
            np.savetxt(path, a, delimiter=",", fmt="%.17g")
        case ".mtx":
            scipy.io.mmwrite(path, a, precision=17)
    return path


@pytest.mark.parametrize("gap", [1e-6, 1e-8])
def test_close_to_a_tie_all_ways_agree(gap: float, rng: np.random.Generator) -> None:
    U, V = (np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(2))
    story = commands.tell(files.Matrix("near", (U * [1, 1 - gap, 0.3, 0.1]) @ V))
    assert story.passed, str(story)
    assert any("entry by entry" in report.subject for report in story.reports)


@pytest.fixture
def matrix_file(tmp_path: Path) -> Path:
    return save(tmp_path / "a.npy", A)


# ---------------------------------------------------------------------------------------------------------------------
# The story


def test_without_arguments_it_tells_the_whole_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    for part in (
        "singular values",
        "spectral norm",
        "gradient",
        "reverse",
        first.SWEEPS,
        first.ADJOINT,
        "all ways agree",
    ):
        assert part in out
    assert f"{np.linalg.norm(commands.BUILT_IN.array, 2):.6g}" in out


def test_the_story_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--order", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    (matrix,) = told["matrices"]
    assert told["passed"] is matrix["passed"] is True
    np.testing.assert_allclose(matrix["singular_values"], np.linalg.svd(commands.BUILT_IN.array)[1], rtol=1e-14)
    assert {r["name"] for report in matrix["reports"] for r in report["rows"]} >= {
        second.HESSIAN_REVERSE,
        first.ADJOINT,
    }


def test_it_runs_as_a_process(tmp_path: Path) -> None:
    result = subprocess.run([sys.executable, "-m", "dualsvd"], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "all ways agree" in result.stdout
    assert result.stderr == ""


def test_disagreement_is_exit_status_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ds.custom_rule(ds.opnorm, pushforward=lambda y, x, dx: 0 * y, pullback=lambda y_bar, y, x: x[0])
    monkeypatch.setattr(commands, "subjects", lambda S: {"opnorm": wrong})
    assert main([]) == 1
    assert "NOT ALL WAYS AGREE" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------------------------------
# check


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".mtx"])
def test_check_reads_every_format(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / f"a{suffix}", A)
    (matrix,) = files.read(path)
    np.testing.assert_array_equal(matrix.array, A)
    assert main(["check", str(path)]) == 0
    assert str(path) in capsys.readouterr().out


MATRICES: dict[str, np.ndarray] = {
    "wide": A.T,
    "one row": A[:1],
    "one column": A[:, :1],
    "one by one": A[:1, :1],
    "identity": np.eye(3),
    "zero": np.zeros((3, 2)),
    "rank one": np.outer(A[:, 0], A[0]),
    "complex": A[:4] + 1j * A[2:],
    "single precision": A.astype(np.float32),
    "integers": np.array([[3, 4], [-4, 3]]),
    "a batch": np.stack([A, A[::-1] + 1]),
    "badly scaled": A * 1e-290,
    "big endian": A.astype(">f8"),
    "Fortran order": np.asfortranarray(A),
}


@pytest.mark.parametrize("name", MATRICES)
def test_check_agrees_on_matrices_of_every_kind(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(save(tmp_path / "a.npy", MATRICES[name]))]) == 0, capsys.readouterr().out


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    datasets = pytest.importorskip("sklearn.datasets")
    return datasets.load_digits().data


OUT_OF_RANGE = {
    "overflow": np.full((3, 3), 1.7e308),
    "overflow in single precision": np.full((3, 3), 3e38, np.float32),
    "overflow of the sum of singular values": 1e308 * np.eye(3),
    "overflow of differences": 1.7e308 * np.eye(3, 1),
    "subnormal": np.full((3, 2), 1e-310),
    "subnormal in a batch": np.stack([A, A * 1e-310]),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_check_refuses_what_has_no_digits(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(save(tmp_path / "a.npy", OUT_OF_RANGE[name]))]) == 2
    one_line(capsys, f"the range of {OUT_OF_RANGE[name].dtype}; rescale the matrix")


@pytest.mark.parametrize("command", ["check", "diagnose"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128, np.complex64], ids=lambda d: d.__name__)
@pytest.mark.parametrize(
    "a", [A, np.eye(3), np.ones((1, 1)), np.diag([1.0, 1e-3, 1e-8])], ids=["generic", "tied", "one", "graded"]
)
def test_the_largest_matrices_agree_without_a_warning(
    a: np.ndarray, dtype: type, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room = float(np.finfo(dtype).max) / commands.ROOM
    scaled = a * (0.99 * room / np.linalg.norm(a, "nuc"))  # 0.99: rounding of the sum
    assert main([command, str(save(tmp_path / "a.npy", scaled.astype(dtype)))]) == 0
    assert capsys.readouterr().err == ""


def test_a_diagnosis_of_values_that_overflow_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(save(tmp_path / "a.npy", np.full((3, 3), 3e38, np.float32)))]) == 2
    one_line(capsys, "the largest singular value, inf, is out of the range of float32; rescale the matrix")


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".mtx"])
def test_the_digits_agree_in_all_modes(
    suffix: str, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert digits.shape == (1797, 64)
    path = save(tmp_path / f"digits{suffix}", digits)
    assert main(["check", "--json", str(path)]) == 0
    (told,) = json.loads(capsys.readouterr().out)["matrices"]
    assert told["shape"] == [1797, 64]
    rows = {r["name"] for report in told["reports"] for r in report["rows"]}
    assert {first.FORWARD, first.SWEEPS, first.REVERSE, first.ADJOINT, first.REVERSE_DIFFERENCES} <= rows
    assert all(r["passed"] for report in told["reports"] for r in report["rows"])


def test_the_leading_part_is_cut_where_it_is_smooth() -> None:
    a = np.diag([3.0, 3.0, 1.0, 1.0])
    assert commands.leading_part(np.array([3.0, 3.0, 1.0, 1.0])).__name__ == "low_rank of order 2"
    np.testing.assert_allclose(commands.leading_part(np.array([3.0, 3.0, 1.0, 1.0]))(a), np.diag([3.0, 3.0, 0.0, 0.0]))
    assert commands.leading_part(np.ones(3)).__name__ == "low_rank of order 3"
    assert commands.leading_part(np.ones(1)).__name__ == "low_rank of order 1"
    assert commands.leading_part(np.array([[9.0, 1.0, 0.5], [5.0, 4.9, 0.1]])).__name__ == "low_rank of order 2"


@pytest.mark.parametrize("place", ["before the command", "behind it"])
def test_options_may_stand_before_or_behind_a_command(
    place: str, matrix_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--json", "--order", "2", "--plot", str(tmp_path / "a.png")]
    command = ["check", str(matrix_file)]
    assert main([*options, *command] if place == "before the command" else [*command, *options]) == 0
    (told,) = json.loads(capsys.readouterr().out)["matrices"]
    assert second.HESSIAN_REVERSE in {r["name"] for report in told["reports"] for r in report["rows"]}
    assert (tmp_path / "a.png").exists()


def test_check_takes_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [save(tmp_path / "a.npy", A), save(tmp_path / "b.csv", A.T)]
    np.savez(tmp_path / "c.npz", one=A, two=A[:3])
    assert main(["check", "--json", *map(str, paths), str(tmp_path / "c.npz")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [m["shape"] for m in told["matrices"]] == [[6, 4], [4, 6], [6, 4], [3, 4]]
    assert told["matrices"][3]["name"].endswith("c.npz:two")


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "1;2\n3;4",
        "1\t2\r\n3\t4\r\n",
        "1 2\n 3  4\n",
        "a,b\n1,2\n3,4",
        "# by hand\n\n1, 2\n3, 4\n",
        "\ufeff1,2\n3,4",
        "i,j\n1,2\n3,4",
        "x_1,x_2\n1,2\n3,4",
    ],
    ids=["commas", "semicolons", "tabs", "blanks", "column names", "comment", "byte order mark", "i and j", "x_1, x_2"],
)
def test_csv_files_as_people_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(files.read(tmp_path / "a.csv")[0].array, [[1.0, 2.0], [3.0, 4.0]])


def test_a_column_named_j_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("j\n1\n2\n")
    np.testing.assert_array_equal(files.read(tmp_path / "a.csv")[0].array, [[1.0], [2.0]])


def test_complex_numbers_in_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1+2j,3\n4,-1j")
    np.testing.assert_array_equal(files.read(tmp_path / "a.csv")[0].array, [[1 + 2j, 3], [4, -1j]])


SYMMETRIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "general": lambda a: a,
    "symmetric": lambda a: a + a.T,
    "skew-symmetric": lambda a: a - a.T,
    "hermitian": lambda a: a + a.conj().T,
}


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("field", ["real", "complex", "integer"])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.coo_array], ids=["array", "coordinate"])
def test_mtx_files_of_every_kind(form: Callable[..., object], field: str, symmetry: str, tmp_path: Path) -> None:
    a = SYMMETRIES[symmetry]({"real": A[:4], "complex": A[:4] + 1j * A[2:], "integer": np.rint(9 * A[:4])}[field])
    if field == "integer":
        a = a.astype(int)
    scipy.io.mmwrite(tmp_path / "a.mtx", form(a), symmetry=symmetry, precision=17)
    np.testing.assert_array_equal(files.read(tmp_path / "a.mtx")[0].array, a)


@pytest.mark.parametrize(
    "text",
    [
        "array real general\n2 2\n1.0D+00\n3d0\n.2e1\n+4.",
        "array real general\r\n2 2\r\n1\r\n3\r\n2\r\n4\r\n",
        "array double general \n% by hand\n\n 2\t2 \n\n 1\n3 \n\n2\n4\n\n",
        "Coordinate Real General\n2 2 5\n1 1 1\n2 1 3\n1 2 1\n1 2 1\n2 2 4\n",
    ],
    ids=["exponents of Fortran", "lines of Windows", "blanks and comments", "an entry in two parts"],
)
def test_mtx_files_as_people_write_them(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.mtx").write_text(f"%%MatrixMarket matrix {text}", newline="")
    np.testing.assert_array_equal(files.read(tmp_path / "a.mtx")[0].array, [[1.0, 2.0], [3.0, 4.0]])


def test_mtx_patterns_are_ones(tmp_path: Path) -> None:
    (tmp_path / "a.mtx").write_text("%%MatrixMarket matrix coordinate pattern symmetric\n2 2 2\n1 1\n2 1\n")
    np.testing.assert_array_equal(files.read(tmp_path / "a.mtx")[0].array, [[1.0, 1.0], [1.0, 0.0]])


def test_sparse_matrices_are_filled(tmp_path: Path) -> None:
    scipy.io.mmwrite(tmp_path / "a.mtx", scipy.sparse.coo_array(np.diag([1.0, 2.0, 0.0])))
    np.testing.assert_array_equal(files.read(tmp_path / "a.mtx")[0].array, np.diag([1.0, 2.0, 0.0]))


# ---------------------------------------------------------------------------------------------------------------------
# Bad input: one line, exit status 2, nothing written


def truncated(path: Path) -> None:
    whole = path.with_name("whole" + path.suffix)
    save(whole, A)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    whole.unlink()


def with_entry(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        bad = A.copy()
        bad[3, 2] = value
        save(path, bad)

    return make


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


def array(a: object, dtype: str | None = None) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.array(a, dtype=dtype), allow_pickle=True)


def not_an_array_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing to see")


def nothing_inside(path: Path) -> None:
    with zipfile.ZipFile(path, "w"):
        pass


def header(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content) and None


def archive(compression: int, **overwritten: int) -> Callable[[Path], None]:
    """An archive of one matrix, bytes of its directory overwritten: in both places, before the data and behind it."""

    def make(path: Path) -> None:
        save(path.with_suffix(".npy"), A)
        with zipfile.ZipFile(path, "w", compression) as whole:
            whole.write(path.with_suffix(".npy"), "a.npy")
        path.with_suffix(".npy").unlink()
        data = bytearray(path.read_bytes())
        for field, value in overwritten.items():
            before, behind = {"flags": (6, 8), "method": (8, 10), "contents": (50, None)}[field]
            data[before] = value
            if behind is not None:
                data[data.index(b"PK\x01\x02") + behind] = value
        path.write_bytes(data)

    return make


def market(content: str) -> Callable[[Path], None]:
    return text(f"%%MatrixMarket matrix {content}")


BAD: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "missing file": ("a.npy", lambda path: None, "No such file"),
    "a directory": ("a.npy", lambda path: path.mkdir(), "is a directory"),
    "unknown extension": ("a.xlsx", text("1,2"), ".npy, .npz, .csv, .mtx"),
    "no extension": ("matrix", text("1,2"), "no extension"),
    "empty npy": ("a.npy", text(""), "empty"),
    "empty npz": ("a.npz", text(""), "empty"),
    "empty csv": ("a.csv", text(""), "empty"),
    "empty mtx": ("a.mtx", text(""), "empty"),
    "blank csv": ("a.csv", text("\n\n  \n"), "no numbers"),
    "column names only": ("a.csv", text("a,b,c\n"), "'a' is not a number"),
    "truncated npy": ("a.npy", truncated, "a.npy"),
    "truncated npz": ("a.npz", truncated, "cut off"),
    "truncated csv": ("a.csv", text("1,2,3\n4,5"), "line 2 has 2 fields"),
    "truncated mtx": ("a.mtx", truncated, "a.mtx"),
    "decimal commas beside semicolons": ("a.csv", text("1,5;2,5\n3;4\n"), "line 1, column 1: '1,5' is not a number"),
    "words in csv": ("a.csv", text("1,2\n3,four\n"), "line 2, column 2: 'four' is not a number"),
    "underscores in csv": ("a.csv", text("1,2\n3,1_000\n"), "line 2, column 2: '1_000' is not a number"),
    "a NUL in csv": ("a.csv", text("1,2\n3\0,4\n"), "line 2, column 1: '3\\x00' is not a number"),
    "gap in csv": ("a.csv", text("1,2\n3,\n"), "line 2, column 2: a number is missing"),
    "ragged csv": ("a.csv", text("1,2\n3,4,5\n"), "line 2 has 3 fields"),
    "bytes in csv": ("a.csv", lambda path: path.write_bytes(bytes(range(128, 255))) and None, "not a text file"),
    "text as npy": ("a.npy", text("1,2\n3,4\n"), "not a .npy file"),
    "text as npz": ("a.npz", text("1,2\n3,4\n"), "not a .npz file"),
    "text as mtx": ("a.mtx", text("1,2\n3,4\n"), "line 1: expected a banner such as"),
    "a pattern in an array": ("a.mtx", market("array pattern general\n1 1\n\n"), "line 1: an array has values"),
    "a vector as mtx": ("a.mtx", text("%%MatrixMarket vector array real general\n1\n1\n"), "line 1: expected a banner"),
    "a banner alone": ("a.mtx", market("array real general"), "ends before the line that says how large"),
    "no rows in mtx": ("a.mtx", market("array real general\n0 0\n"), "shape (0, 0)"),
    "a size with a point": ("a.mtx", market("array real general\n2. 1\n1\n2\n"), "line 2: expected the number of rows"),
    "decimal commas in mtx": (
        "a.mtx",
        market("array real general\n1 2\n1,5\n2\n"),
        "line 3: expected a number, got '1,5'",
    ),
    "hexadecimal in mtx": ("a.mtx", market("array real general\n1 1\n0x10\n"), "line 3: expected a number, got '0x10'"),
    "a point in a whole number": (
        "a.mtx",
        market("array integer general\n%\n1 2\n1\n1.7"),
        "line 5: expected a whole number",
    ),
    "two entries a line": (
        "a.mtx",
        market("array real general\n2 2\n1 2\n3 4"),
        "line 3: expected a number, got '1 2'",
    ),
    "no imaginary part": (
        "a.mtx",
        market("array complex general\n1 1\n1\n"),
        "line 3: expected a real part, an imaginary",
    ),
    "a column too many": (
        "a.mtx",
        market("coordinate real general\n2 2 1\n1 1 3 4\n"),
        "line 3: expected a row, a column, a number, got '1 1 3 4'",
    ),
    "a number in a pattern": ("a.mtx", market("coordinate pattern general\n2 2 1\n1 1 3\n"), "got '1 1 3'"),
    "a NUL in mtx": ("a.mtx", market("array real general\n1 1\n1\0\n"), "line 3: expected a number"),
    "an entry too many": (
        "a.mtx",
        market("array real general\n1 1\n1\n2\n"),
        "line 2: expected 1 entries behind it, got 2",
    ),
    "a place outside": (
        "a.mtx",
        market("coordinate real general\n% by hand\n\n2 2 1\n\n1 3 4\n"),
        "Line 6: Column index out of bounds",
    ),
    "a symmetric matrix of 2 x 3": (
        "a.mtx",
        market("array real symmetric\n2 3\n1\n2\n3\n"),
        "line 2: a symmetric matrix is square",
    ),
    "NaN": ("a.npy", with_entry(np.nan), "entry (3, 2) is nan"),
    "infinity": ("a.csv", with_entry(-np.inf), "entry (3, 2) is -inf"),
    "NaN in mtx": ("a.mtx", with_entry(np.nan), "entry (3, 2) is nan"),
    "one axis": ("a.npy", array([1.0, 2.0, 3.0]), "shape (3,)"),
    "no axis": ("a.npy", array(1.0), "shape ()"),
    "no entries": ("a.npy", array(np.zeros((0, 3))), "shape (0, 3)"),
    "half precision": ("a.npy", array(np.eye(2), "float16"), "float16"),
    "strings": ("a.npy", array([["a", "b"], ["c", "d"]]), "<U1"),
    "objects": ("a.npy", array([[1, None], [2, 3]], "object"), "Object arrays"),
    "a header that ends early": ("a.npy", header(b"{'descr': ('<f8'\n"), "a.npy: damaged, or not of the kind"),
    "a header that is no Python": ("a.npy", header(b"{'descr' '<f8' 2\n"), "a.npy: "),
    "damaged data in npz": ("a.npz", archive(zipfile.ZIP_DEFLATED, contents=255), "damaged, or not of the kind"),
    "damaged data in npz by LZMA": ("a.npz", archive(zipfile.ZIP_LZMA, contents=255), "damaged, or not of the kind"),
    "encrypted npz": ("a.npz", archive(zipfile.ZIP_STORED, flags=1), "encrypted"),
    "npz compressed in another way": ("a.npz", archive(zipfile.ZIP_STORED, method=99), "compression method"),
    "no arrays in npz": ("a.npz", nothing_inside, "no array"),
    "something else in npz": ("a.npz", not_an_array_inside, "a.npz"),
}


def one_line(capsys: pytest.CaptureFixture[str], expected: str) -> None:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dualsvd: ") and captured.err.count("\n") == 1
    assert expected in captured.err


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_status_two(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filename, make, expected = BAD[name]
    make(tmp_path / filename)
    before = sorted(tmp_path.iterdir())
    for command in (["check"], ["diagnose"], ["jacobian", "--out", str(tmp_path / "J.npy")]):
        assert main([*command, str(tmp_path / filename)]) == 2
        one_line(capsys, expected)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(matrix_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix_file.chmod(0)
    assert main(["check", str(matrix_file)]) == 2
    one_line(capsys, "Permission denied")


def test_a_bad_file_among_good_ones_stops_before_anything_is_said(
    matrix_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(matrix_file), str(tmp_path / "missing.npy")]) == 2
    one_line(capsys, "missing.npy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["explain"],
        ["check"],
        ["jacobian", "a.npy"],
        ["jacobian", "a.npy", "--of", "determinant", "--out", "J.npy"],
        ["--order", "3"],
        ["--plot", "a.png", "info"],
        ["--order", "2", "diagnose", "a.npy"],
        *(["bench", "--largest", largest] for largest in ("many", "0", "-3")),
        ["diagnose", "a.npy", "b.npy"],
        ["warmup", "--fast"],
    ],
    ids=str,
)
def test_bad_commands_are_exit_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    command = next(
        (f" {a}" for a in arguments if a in ("check", "jacobian", "info", "diagnose", "bench", "warmup")), ""
    )
    one_line(capsys, f"; see dualsvd{command} --help\n")


@pytest.mark.parametrize(
    ("name", "printed"), [("\xe9.npy", "\\xe9.npy"), ("\udcff.npy", "\\udcff.npy")], ids=["not ASCII", "no text at all"]
)
def test_names_that_the_output_cannot_encode_are_escaped(name: str, printed: str, tmp_path: Path) -> None:
    try:
        save(tmp_path / "a.npy", A).rename(tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("a file cannot have this name here")
    command = [sys.executable, "-m", "dualsvd", "diagnose", name]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=ascii_only)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{printed}\n")


@pytest.mark.skipif(os.name != "posix", reason="outputs are closed by a shell of POSIX")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("diagnose a.npy", 0),
        ("check a.npy", 0),
        ("jacobian a.npy --out J.npy", 0),
        ("check nowhere.npy", 2),
        ("nothing", 2),
    ],
)
@pytest.mark.parametrize("closed", ["1", "2"], ids=["stdout closed", "stderr closed"])
def test_outputs_may_be_closed(closed: str, arguments: str, status: int, matrix_file: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m dualsvd {arguments} {closed}>&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=matrix_file.parent)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    if status:  # what went wrong is not taken for a result
        assert done.stdout == "" and bool(done.stderr) == (closed == "1")


def test_bad_input_in_a_process_shows_no_traceback(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dualsvd", "check", "nowhere.npy"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("scipy", ["check", "a.mtx"]), ("matplotlib", ["--plot", "a.png"])],
    ids=["scipy for mtx", "matplotlib for plots"],
)
def test_a_missing_optional_package_is_named(
    package: str,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save(tmp_path / "a.mtx", A)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(arguments) == 2
    one_line(capsys, "pip install 'dualsvd[cli]'")


def test_cuda_without_a_device_says_what_is_missing(matrix_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if ds.cuda.is_available():
        pytest.skip("there is a device")
    assert main(["check", "--device", "cuda", str(matrix_file)]) == 2
    one_line(capsys, "cuda")


# ---------------------------------------------------------------------------------------------------------------------
# diagnose, jacobian, info, bench, warmup


def test_diagnose_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "tied.npy", np.diag([2.0, 2.0, 1.0, 0.0]))
    assert main(["diagnose", str(path)]) == 0
    assert "tied.npy" in capsys.readouterr().out
    assert main(["diagnose", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("of", sorted(commands.FUNCTIONS))
@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_jacobian_writes_what_the_function_returns(
    of: str, mode: str, matrix_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "J.npy"
    assert main(["jacobian", str(matrix_file), "--of", of, "--out", str(out), "--mode", mode, "--json"]) == 0
    J = np.load(out)
    assert json.loads(capsys.readouterr().out)["shape"] == list(J.shape)
    np.testing.assert_allclose(J, ds.jacobian(commands.FUNCTIONS[of], A), rtol=1e-11, atol=1e-12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["J.npy", "a.npy"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "J.txt"], ".npy"),
        (["--out", "nowhere/J.npy"], "nowhere"),
        (["--out", "."], "."),
    ],
    ids=["another format", "no folder", "a folder"],
)
def test_jacobian_refuses_what_it_cannot_do(
    arguments: list[str],
    expected: str,
    matrix_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(matrix_file.parent)
    assert main(["jacobian", str(matrix_file), *arguments]) == 2
    one_line(capsys, expected)
    assert [p.name for p in matrix_file.parent.iterdir()] == ["a.npy"]


def test_jacobian_that_is_not_finite_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.npy", A * 1e-300)
    assert main(["jacobian", str(path), "--of", "pinv", "--out", str(tmp_path / "J.npy")]) == 2
    one_line(capsys, "576 of its 576 entries are not finite")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_jacobian_of_what_the_disk_cannot_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.npy", np.random.default_rng(0).standard_normal((20000, 50)))
    assert main(["jacobian", str(path), "--of", "pinv", "--out", str(tmp_path / "J.npy")]) == 2
    one_line(capsys, "8e+03 GB")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_jacobian_that_fails_midway_leaves_the_old_file(
    matrix_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "J.npy"
    out.write_bytes(b"precious")

    def broken(*args: object, **kwargs: object) -> None:
        raise ds.ConvergenceError("no")

    monkeypatch.setattr(commands, "jacobian", broken)
    assert main(["jacobian", str(matrix_file), "--out", str(out)]) == 2
    assert out.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["J.npy", "a.npy"]


#: a program that writes half of a file, and is then asked to end
HALF = """
import os, signal, sys
from dualsvd import files
with files.replacing("J.npy") as temporary:
    temporary.write_bytes(b"half")
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    signal.pause()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_program_that_is_asked_to_end_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "J.npy").write_bytes(b"precious")
    done = subprocess.run([sys.executable, "-c", HALF, name], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + getattr(signal, name), "")
    assert [p.name for p in tmp_path.iterdir()] == ["J.npy"]
    assert (tmp_path / "J.npy").read_bytes() == b"precious"


def test_signals_are_handled_as_before_when_a_file_is_written(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with files.replacing(tmp_path / "a") as temporary:
        assert signal.getsignal(signal.SIGTERM) is not before
        temporary.touch()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.name != "posix", reason="modes and links of POSIX")
@pytest.mark.parametrize("link", [False, True], ids=["a file", "a link"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444], ids=oct)
def test_a_file_that_is_replaced_keeps_its_mode_and_the_links_to_it(
    mode: int, link: bool, matrix_file: Path, tmp_path: Path
) -> None:
    old, out = tmp_path / "old" / "J.npy", tmp_path / "J.npy"
    old.parent.mkdir()
    old.write_bytes(b"old")
    old.chmod(mode)
    if link:
        out.symlink_to(old)
    else:
        old.rename(out)
    assert main(["jacobian", str(matrix_file), "--out", str(out)]) == 0
    assert out.is_symlink() is link
    assert out.stat().st_mode & 0o777 == mode
    assert np.load(out).shape == (4, 6, 4)
    assert [p.name for p in old.parent.iterdir()] == ["J.npy"] * link


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_to_nowhere_is_where_a_file_is_written(matrix_file: Path, tmp_path: Path) -> None:
    (tmp_path / "J.npy").symlink_to(tmp_path / "new.npy")
    assert main(["jacobian", str(matrix_file), "--out", str(tmp_path / "J.npy")]) == 0
    assert (tmp_path / "J.npy").is_symlink() and (tmp_path / "new.npy").is_file()


def test_jacobian_of_a_complex_matrix_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.npy", A + 1j)
    assert main(["jacobian", str(path), "--out", str(tmp_path / "J.npy")]) == 2
    one_line(capsys, "a.npy: holds complex numbers")


@pytest.mark.parametrize("what", ["batch", "archive"])
def test_jacobian_takes_one_matrix(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if what == "batch":
        path = save(tmp_path / "a.npy", np.stack([A, A]))
    else:
        np.savez(path := tmp_path / "a.npz", a=A, b=A)
    assert main(["jacobian", str(path), "--out", str(tmp_path / "J.npy")]) == 2
    one_line(capsys, "one")


def test_info_names_versions_and_extras(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert np.__version__ in capsys.readouterr().out
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["numpy"] == np.__version__


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # PyTorch of its own
def test_bench_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "bench.png"
    assert main(["bench", "--json", "--largest", "3", "--plot", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out)["measurements"]
    assert picture.stat().st_size > 1000


#: what users call, on shapes that warming up did not see; kernels that were compiled for it are counted
AFTER_WARMUP = """
import numpy as np, dualsvd as ds
from dualsvd.kernels import accurate, banded, compiled, krylov, memory_bound
rng = np.random.default_rng(0)
for shape in (20, 2, 2), (20, 3, 3), (20, 4, 4), (20, 6, 4), (5, 14, 17), (6, 6), (33, 34):
    for dtype in DTYPES:
        a = rng.standard_normal(shape).astype(dtype)
        for how in {}, {"algorithm": "jacobi"}, {"tangents": "sweeps"}:
            with ds.options(**how):
                U, S, Vh = ds.svd(a)
                ds.linalg.svd_pushforward(U, S, Vh, np.stack([a] * 3))
                ds.linalg.svd_pullback(U, S, Vh, U, S, None)
                ds.gradient(lambda x: ds.svdvals(x).sum(), a)
                ds.jvp(lambda x: ds.svd(x).S, (a,), (a,))
for x in rng.standard_normal((200, 200)), rng.standard_normal(40_000).astype("float32"):
    ds.jvp(lambda x: x * np.sin(x) / (1 + x * x) + 1 / (2 + x), (x,), (x,))
    ds.jacobian(ds.svdvals, x.reshape(200, -1))
for shape in (20, 30, 40), (20, 70, 90):
    for dtype in DTYPES:
        ds.svdvals(rng.standard_normal(shape).astype(dtype))
ds.gradient(ds.opnorm, rng.standard_normal((300, 400)))
modules = accurate, banded, compiled, krylov, memory_bound
kernels = [k for module in modules for k in vars(module).values() if hasattr(k, "stats")]
print(sum(sum(k.stats.cache_hits.values()) for k in kernels), sum(sum(k.stats.cache_misses.values()) for k in kernels))
"""


@pytest.mark.slow
def test_nothing_compiles_after_warmup(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(commands.KERNELS)
    code = AFTER_WARMUP.replace("DTYPES", repr(commands.DTYPES))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    read, compiled = map(int, done.stdout.split())
    assert read > 0 and compiled == 0


# ---------------------------------------------------------------------------------------------------------------------
# Pictures, and output that nobody reads to its end


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_one_line_and_exit_status_two() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "dualsvd", "info"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("dualsvd: the output could not be written") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [[], ["check", "a.npy"], ["diagnose", "a.npy"]], ids=["story", "check", "diagnose"])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_pictures_are_drawn(
    command: list[str],
    suffix: str,
    matrix_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(matrix_file.parent)
    assert main([*command, "--plot", f"picture{suffix}"]) == 0
    head = (matrix_file.parent / f"picture{suffix}").read_bytes()[:100]
    assert head.startswith(b"\x89PNG") if suffix == ".png" else b"<?xml" in head
    assert sorted(p.name for p in matrix_file.parent.iterdir()) == ["a.npy", f"picture{suffix}"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [("picture.doc", ".png"), ("nowhere/picture.png", "nowhere")],
    ids=["unknown kind", "no folder"],
)
def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(
    target: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--plot", target]) == 2
    one_line(capsys, expected)


def test_a_spectrum_with_zeros_is_drawn(tmp_path: Path) -> None:
    a = np.zeros((3, 3))
    plots.draw_spectra([files.Matrix("zero", a), files.Matrix("batch", np.ones((2, 20, 20)))], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["$", "$x$", "$\\frac$", "x_{^", "\u65e5", "\udcff", "line\nbreak", ""])
def test_any_name_is_drawn_as_it_is(name: str, tmp_path: Path) -> None:
    plots.draw_spectra([files.Matrix(f"{name}.npy", A)], tmp_path / "a.png")
    plots.draw_stories([commands.tell(files.Matrix(f"a.npz:{name}", A))], tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("end", ["tiny", "smallest_subnormal", "max"])
@pytest.mark.parametrize("second", [1.0, 0.9, 1e-5, 0.0])
def test_spectra_at_the_ends_of_the_range_are_drawn(end: str, second: float, dtype: type, tmp_path: Path) -> None:
    top = getattr(np.finfo(dtype), end)
    plots.draw_spectra([files.Matrix("a", np.diag([top, dtype(second * top)]))], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_bench_of_nothing_is_drawn(tmp_path: Path) -> None:
    limits = Limits(multiply_adds=1.0, products=1.0, copies=1.0)
    plots.draw_bench(bench.Report(limits, (), (), (), ()), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dualsvd", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()
    assert (process.wait(), errors) == (0, b"")


# ---------------------------------------------------------------------------------------------------------------------
# The notes show what it really prints


def masked(text: str) -> str:
    """Errors and times differ from machine to machine; what was compared, and that it agreed, does not."""
    text = re.sub(r"\d\.\de[+-]\d\d", "#", text)
    return re.sub(r"[\d.]+ s$", "# s", text, flags=re.M)


def shown(command: str) -> str:
    """What the notes show under a command."""
    notes = (Path(__file__).parent.parent / "notes" / "command-line.md").read_text()
    block = notes.partition(f"$ {command}\n")[2].partition("```")[0]
    return block.partition("$ ")[0].rstrip() + "\n"


def test_the_notes_show_the_digits(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("digits.npy"), digits)
    assert main(["check", "digits.npy"]) == 0
    assert masked(capsys.readouterr().out) == masked(shown("dualsvd check digits.npy"))


def test_the_notes_show_a_diagnosis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("tied.npy"), np.diag([2.0, 2.0, 1.0, 0.0]))
    assert main(["diagnose", "tied.npy"]) == 0
    assert capsys.readouterr().out == shown("dualsvd diagnose tied.npy")


def test_the_notes_show_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.csv").write_text("1,2\n3,four\n")
    for name in ("broken.csv", "missing.npy"):
        assert main(["check", name]) == 2
        assert capsys.readouterr().err == shown(f"dualsvd check {name}")
