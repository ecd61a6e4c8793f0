"""Importing dualsvd is quick and brings nothing heavy; imports point one way; the public names are all there."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dualsvd as ds

PACKAGE = Path(ds.__file__).parent

#: an import may take so long in a fresh process, NumPy's own import included; in processor time, since another process
#: on the same core is no fault of ours
SECONDS = 0.5
HEAVY = ("numba", "llvmlite", "scipy", "torch", "jax", "autograd", "dask", "matplotlib", "tqdm", "sklearn", "mpmath")

# What each module may import, from the ground up: only its own layer and those below. A package stands for the modules
# in it that are not named themselves.
LAYERS = (
    ("errors", "elementary", "structure", "outputs"),
    ("settings",),
    ("dual", "kernels.protocol"),
    ("kernels",),
    ("rules.levels", "rules.registry"),
    (
        "rules.elementwise",
        "rules.structural",
        "rules.reductions",
        "rules.products",
        "rules.ndarray",
        "rules.custom",
        "rules",
    ),
    ("linalg",),
    ("forward", "reverse"),
    ("kernels.arrays", "kernels.small"),
    ("transforms",),
    ("spectral", "validation"),
    ("cuda", "interop"),
    ("bench", "files", "matrix_market"),
    ("commands",),
    ("plots",),
    ("__main__",),
    ("",),  # dualsvd/__init__.py
)


# What functions import from above when they are called, and why they have to.
FROM_ABOVE = {
    ("dual", "kernels.boxing"): "Numba asks a Dual for its type",
    ("rules.registry", "kernels.arrays"): "Numba asks a traced array for its type",
    ("kernels.scalars", "kernels.arrays"): "whoever compiles a Dual compiles arrays of them too",
    (
        "kernels.boxing",
        "rules.levels",
    ): "a number in compiled code knows the level of its derivative, one outside its tag",
    ("kernels.boxing", "forward"): "a number that compiled code returns to a running derivative is a DualArray",
    ("rules.custom", "forward"): "a Dual that is given to a custom rule is a DualArray of one number",
    ("linalg.divided_differences", "transforms"): "the second derivative of a user's function is that of its df",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> int:
    """The layer of a module, or of the package it belongs to."""
    name = module
    while True:
        for k, names in enumerate(LAYERS):
            if name in names:
                return k
        if not name:
            raise AssertionError(f"module {module} belongs to no layer: give it one")
        name = name.rpartition(".")[0]


def imported(module: str, when_called: bool = False) -> Iterator[tuple[str, int]]:
    """The modules of dualsvd that a module imports when it is imported itself, with the line; `when_called`: those that
    its functions import too."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    nodes: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not when_called:
            continue  # that is what laziness is
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            name = ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else ""
            if name.partition(".")[0] == PACKAGE.name:
                yield name.partition(".")[2], node.lineno
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".") if package else []
            base = base[: len(base) - (node.level - 1)]
            target = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                full = f"{target}.{alias.name}".strip(".")
                yield (full if full in MODULES else target), node.lineno
        nodes.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("module", MODULES, ids=lambda name: name or "dualsvd")
def test_imports_point_one_way(module: str) -> None:
    own = layer_of(module)
    above = [
        f"{MODULES[module].name}:{line} imports {target or 'dualsvd'}"
        for target, line in imported(module)
        if layer_of(target) > own
    ]
    assert not above


def test_functions_import_from_above_only_where_they_have_to() -> None:
    above = {
        (module, target)
        for module in MODULES
        for target, _ in imported(module, when_called=True)
        if layer_of(target) > layer_of(module)
    }
    assert above == set(FROM_ABOVE)


def test_forward_and_reverse_do_not_know_each_other() -> None:
    assert "reverse" not in {target for target, _ in imported("forward")}
    assert "forward" not in {target for target, _ in imported("reverse")}


def test_a_layer_that_is_violated_is_seen() -> None:
    assert layer_of("transforms") < layer_of("validation.cross") < layer_of("__main__")
    assert ("reverse", 1) not in set(imported("forward"))
    assert any(target == "rules.registry" for target, _ in imported("forward"))


PROBE = """
import json, sys, time
start = time.process_time()
import dualsvd
print(json.dumps([time.process_time() - start, sorted(sys.modules)]))
"""


def probe() -> tuple[float, list[str]]:
    """Seconds of the import in a fresh process, and the modules it brought."""
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(result.stdout)
    return seconds, modules


def test_importing_brings_nothing_heavy() -> None:
    modules = {name.partition(".")[0] for name in probe()[1]}
    assert "numpy" in modules
    assert not modules & set(HEAVY)


def test_importing_is_quick() -> None:
    assert min(probe()[0] for _ in range(5)) < SECONDS  # the best of a few: caches are cold at first


def test_the_package_is_typed() -> None:
    assert (PACKAGE / "py.typed").exists()


# ---------------------------------------------------------------------------------------------------------------------
# The promised names

PROMISED = {
    "derivative": "f, t",
    "gradient": "f, x, *args, argnum=0, mode='auto', chunk=None",
    "jacobian": "f, x, *args, argnum=0, mode='auto', chunk=None, out=None, progress=False",
    "hessian": "f, x, *args, argnum=0, mode='auto', chunk=None",
    "value_and_gradient": "f, x, *args",
    "value_and_jacobian": "f, x, *args",
    "jvp": "f, primals, tangents",
    "vjp": "f, *primals",
    "hvp": "f, x, v",
    "linearize": "f, *primals",
    "DualArray": "value, partials",
    "custom_rule": "f, pushforward=None, pullback=None",
    "cross_validate": "f, x, *, order=1, rng=None, tol=None",
    "check_rules": "",
    "diagnose": "a",
    "linalg.svd": "a, full_matrices=False",
    "linalg.svdvals": "a",
    "linalg.opnorm": "a",
    "linalg.norm": "a, ord",
    "linalg.nuclear_norm": "a",
    "linalg.cond": "a",
    "linalg.pinv": "a",
    "linalg.matrix_rank": "a",
    "linalg.polar": "a",
    "linalg.low_rank": "a, k",
    "linalg.range_projector": "a, k",
    "linalg.singular_value_threshold": "a, tau",
    "linalg.spectral_function": "a, f, df",
    "linalg.svdvals_second": "a, da",
    "linalg.eigh": "a",
    "linalg.eigvalsh": "a",
    "linalg.svd_pushforward": "U, S, Vh, dA",
    "linalg.svd_pullback": "U, S, Vh, U_bar, S_bar, Vh_bar",
}
ALSO_ON_TOP = ("svd", "svdvals", "opnorm", "norm", "nuclear_norm", "polar", "pinv")
ERRORS = {
    "DualSVDError": Exception,
    "ShapeError": ValueError,
    "DTypeError": TypeError,
    "NonFiniteError": ValueError,
    "ConvergenceError": ArithmeticError,
    "DegenerateError": ArithmeticError,
    "GaugeError": ArithmeticError,
    "MissingRuleError": NotImplementedError,
    "BackendError": RuntimeError,
    "TagError": RuntimeError,
    "DegeneracyWarning": UserWarning,
}


def resolve(name: str) -> object:
    found: object = ds
    for part in name.split("."):
        found = getattr(found, part)
    return found


def signature_of(promise: str) -> inspect.Signature:
    scope: dict[str, object] = {}
    exec(f"def promised({promise}): ...", scope)
    return inspect.signature(scope["promised"])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PROMISED)
def test_signatures_are_as_promised(name: str) -> None:
    """More may follow what is promised; nothing is renamed, reordered or given another default."""
    wanted = list(signature_of(PROMISED[name]).parameters.values())
    given = inspect.signature(resolve(name)).parameters  # type: ignore[arg-type]
    assert [p.name for p in wanted] == [n for n in given if n in {p.name for p in wanted}]
    for parameter in wanted:
        assert given[parameter.name].kind == parameter.kind
        if parameter.default is not parameter.empty:
            assert given[parameter.name].default == parameter.default
    required = [
        p.name for p in given.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    assert set(required) <= {p.name for p in wanted}


@pytest.mark.parametrize("name", ALSO_ON_TOP)
def test_the_most_used_stand_on_top_too(name: str) -> None:
    assert getattr(ds, name) is getattr(ds.linalg, name)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_the_promised_kinds(name: str) -> None:
    kind = getattr(ds, name)
    assert issubclass(kind, ERRORS[name])
    assert name in ("DualSVDError", "DegeneracyWarning") or issubclass(kind, ds.DualSVDError)


@pytest.mark.parametrize("name", [*(n for n in PROMISED if n != "DualArray"), "erf", "erfc", "gamma", "lgamma"])
def test_public_functions_are_documented_and_annotated(name: str) -> None:
    function = resolve(name)
    assert inspect.getdoc(function) not in (None, inspect.getdoc(type(function)))
    signature = inspect.signature(function)  # type: ignore[arg-type]
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())
