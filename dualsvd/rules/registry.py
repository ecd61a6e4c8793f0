"""What a rule is, how one is registered, and how NumPy's functions find it.

A `Rule` is a function together with its derivative in both directions. Called with plain arrays it is the function;
called with traced arrays it hands itself to the topmost level of differentiation, which unwraps one level and calls
it again. So nested derivatives need nothing of their own: a rule's pushforward and pullback are written with NumPy
functions, and those dispatch on whatever level remains. Topmost and innermost mean the same: the level opened last,
with the largest tag. "Outer" levels were opened before it, and their numbers are its constants.

    a rule                      pushforward(y, operands, tangents, **params) -> dy
                                pullback(y_bar, y, operands, **params)       -> one cotangent per operand
    a NumPy function of it      @implements(np.sum)

Conventions. A tangent has one leading axis, the directions, before its operand's shape; `None` stands for zero. The
inner product is Re tr(X^H Y), so the pullback of y = c x is conj(c) y_bar. A pullback may return a cotangent that is
still broadcast, or complex for a real operand: `fit` brings it back to its operand. It may also return a function of
no arguments in its place, which is called only if that operand is differentiated.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np

from ..dual import Dual
from ..elementary import BY_NAME, is_of_scipy
from ..errors import DegenerateError, DTypeError, MissingRuleError, ShapeError, TagError
from .levels import caller

Operands = tuple[Any, ...]
Examples = Callable[[np.random.Generator], Iterable[tuple[Operands, dict[str, Any]]]]

#: every rule, in the order of registration; validation and the tests run over all of them
RULES: list[Rule] = []
#: NumPy's functions and ufuncs, and what serves them when an argument is traced
NUMPY: dict[Any, Callable[..., Any]] = {}


# ---------------------------------------------------------------------------------------------------------------------
# Rules


class Rule:
    """A function with its derivative in both directions; calling it evaluates it at whatever level its operands have.

    name         what people read in tables and messages
    function     the primal: plain arrays in, an array or a tuple of arrays out; `params` are never differentiated
    pushforward  (y, operands, tangents, **params) -> dy, of the structure of y, with the leading axis of the tangents
    pullback     (y_bar, y, operands, **params) -> a tuple, one cotangent or None per operand
    examples     rng -> (operands, params) pairs, at which validation tests the rule
    jvp          (operands, tangents, **params) -> (y, dy), where the primal itself must follow the direction, or both
                 are cheaper together; None to have them one after the other
    jacobian     (y, operands, part=, out=, least=, **params) -> the whole Jacobian by the first operand, of output
                 `part` where there are several, in `out` if it is given; at kinks as the pullback has it if `least`,
                 as the pushforward along all entries if it is False, either if None. None where rows or columns are as
                 cheap
    fresh        whether no result shares memory with an operand; its pushforward may give a tangent itself for dy
    """

    __slots__ = ("__weakref__", "examples", "fresh", "function", "jacobian", "jvp", "name", "pullback", "pushforward")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        pushforward: Callable[..., Any] | None,
        pullback: Callable[..., Any] | None,
        examples: Examples,
        *,
        jvp: Callable[..., Any] | None = None,
        jacobian: Callable[..., Any] | None = None,
        fresh: bool = False,
        register: bool = True,
    ) -> None:
        self.name, self.function, self.pushforward, self.pullback = name, function, pushforward, pullback
        self.examples, self.jvp, self.jacobian, self.fresh = examples, jvp, jacobian, fresh
        if register:
            RULES.append(self)

    def __call__(self, *operands: Any, **params: Any) -> Any:
        top = topmost(operands)
        return self.function(*operands, **params) if top is None else top.apply(self, operands, params, top.tag)

    def __repr__(self) -> str:
        return f"<rule {self.name}>"


def linear(name: str, function: Callable[..., Any], transpose: Callable[..., Any], examples: Examples) -> Rule:
    """A rule for a function linear in its one operand: forward is the function itself, reverse its named transpose.

    `function` must leave a leading axis alone (negative axes do); `transpose(y_bar, x, **params)` gives x_bar.
    """

    def pushforward(y: Any, operands: Operands, tangents: Operands, **params: Any) -> Any:
        return function(tangents[0], **params)

    def pullback(y_bar: Any, y: Any, operands: Operands, **params: Any) -> tuple[Any]:
        return (transpose(y_bar, operands[0], **params),)

    return Rule(name, function, pushforward, pullback, examples)


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a callable with NumPy's signature as what those NumPy functions do to traced arrays."""

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            NUMPY[function] = implementation
        return implementation

    return register


def in_order(function: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Leading arguments given by keyword, turned into positional ones: an implementation may name its parameters
    otherwise than NumPy."""
    args, kwargs = [], dict(kwargs)
    with contextlib.suppress(ValueError):  # no signature is known
        for name in inspect.signature(function).parameters:
            if name not in kwargs:
                break
            args.append(kwargs.pop(name))
    return args, kwargs


def topmost(operands: Iterable[Any]) -> Tracer | None:
    """The operand of the innermost open derivative, or None where all are plain."""
    top = None
    for operand in operands:
        if isinstance(operand, Tracer) and (top is None or operand.tag > top.tag):
            top = operand
    return top


def fit(cotangent: Any, operand: Any) -> Any:
    """Bring a cotangent to its operand's shape and dtype: sum what was broadcast, keep a real one real."""
    if type(cotangent) in OF_PYTHON:  # 1j times a number of NumPy's is one of Python's, without axes
        cotangent = np.asarray(cotangent)[()]
    shape = np.shape(operand)
    if np.shape(cotangent) != shape:
        extra = np.ndim(cotangent) - len(shape)
        if extra > 0:
            cotangent = np.sum(cotangent, axis=tuple(range(extra)))
        kept = tuple(i for i, n in enumerate(shape) if n == 1 and np.shape(cotangent)[i] != 1)
        if kept:
            cotangent = np.sum(cotangent, axis=kept, keepdims=True)
        if np.shape(cotangent) != shape:
            cotangent = np.broadcast_to(cotangent, shape)
    if np.iscomplexobj(cotangent) and not np.iscomplexobj(operand):
        cotangent = np.real(cotangent)
    return of_dtype(cotangent, derivative_dtype(operand))


def derivative_dtype(x: Any) -> Any:
    """The dtype of derivatives of x: its own, or double precision where x holds integers or truths, which a rule of the
    user's may give a derivative."""
    dtype = x.dtype if type(x) is np.ndarray else np.result_type(x)
    if dtype.kind in "fc":
        return dtype
    if dtype.kind == "O":
        refuse_objects()
    return np.float64


def refuse_objects() -> NoReturn:
    """Called where NumPy computed with Python's objects, one by one."""
    raise DTypeError(
        f"a traced array met a Python object that is no number of NumPy's (a Fraction, an array of dtype object) at "
        f"{caller()}; make it one with float(...) or .astype(np.float64)"
    )


def of_dtype(x: Any, dtype: Any) -> Any:
    """x in that dtype: a derivative has the precision of what it belongs to, whatever constants it met on its way."""
    if (x.dtype if type(x) is np.ndarray else np.result_type(x)) == dtype:
        return x
    return x.astype(dtype) if isinstance(x, Tracer) else np.asarray(x, dtype=dtype)


def spread(tangent: Any, y: Any, directions: int | None) -> Any:
    """A tangent over the shape of its value, of which rules may leave it still to be broadcast, and in its dtype."""
    shape = (directions, *np.shape(y))
    return of_dtype(
        tangent if np.shape(tangent) == shape else np.copy(np.broadcast_to(tangent, shape)), derivative_dtype(y)
    )


def primal(x: Any) -> Any:
    """The plain value below every level of differentiation: what decisions look at."""
    while isinstance(x, Tracer):
        x.refresh()
        x = x.value
    return x


def refuse_second(x: Any, kink: Any, message: str) -> None:
    """Called by a rule whose derivative at x jumps where `kink` says so: raise if an outer derivative moves x there."""
    while isinstance(x, Tracer):
        partials = getattr(x, "_partials", None)
        if np.any(kink if partials is None else kink & (primal(partials) != 0)):
            raise DegenerateError(message)
        x = x.value


_INEXACT = frozenset(map(np.dtype, "fdFD"))


def as_inexact(x: Any, name: str = "x") -> Any:
    """x as an array (or tracer) of floating-point numbers; integers become float64, other kinds are refused."""
    if type(x) is np.ndarray and x.dtype in _INEXACT:
        return x
    if isinstance(x, Tracer):
        return x.astype(np.float64) if x.dtype.kind in "iub" else x
    if isinstance(x, np.ma.MaskedArray):
        refuse_foreign(type(x), f"{name} is")
    given, x = type(x), np.asarray(x)
    kind = x.dtype.kind
    if kind in "iub":
        return x.astype(np.float64)
    if kind not in "fc" or x.dtype.char not in "fdFD":
        got, remedy = f"{x.dtype}", f"convert it with .astype(np.{'complex128' if kind == 'c' else 'float64'})"
        if not x.ndim and not issubclass(given, (np.ndarray, np.generic)):  # an object that NumPy could only box
            if is_foreign(given):
                refuse_foreign(given, f"{name} is")
            got, remedy = f"a {given.__name__}", "give an array of numbers"
        raise DTypeError(
            f"{name} must hold float32, float64, complex64 or complex128 numbers (integers become float64), "
            f"got {got}; {remedy}"
        )
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def as_numbers(x: Any, whose: str) -> Any:
    """What a function of the user's returned, as an array or a tracer; what holds no numbers is refused."""
    if isinstance(x, Tracer):
        return x
    try:
        array = np.asarray(x)
    except ValueError:  # of unequal lengths
        array = np.empty((), dtype=object)
    if array.dtype.kind not in "iubfc":
        raise DTypeError(f"{whose} must return numbers or arrays of numbers, got {type(x).__name__}")
    return array


# ---------------------------------------------------------------------------------------------------------------------
# Traced arrays

OF_PYTHON = frozenset((bool, int, float, complex))
#: the types that operations take as they are; those of traced arrays enrol themselves
KNOWN: set[type] = {*OF_PYTHON, np.ndarray, np.float64}


@functools.cache
def _typing() -> Any:
    return importlib.import_module("dualsvd.kernels.arrays").type_of


class Tracer:
    """Base of DualArray and TapeArray: looks like an ndarray, sends every operation to its rule."""

    __slots__ = ("tag", "value")
    # above those of other arrays: what they do not know how to do with a traced one is then for us to do, or to refuse
    __array_priority__ = __pandas_priority__ = 10_000
    value: Any
    tag: int
    #: what a level does with a rule: (rule, operands, params, tag) -> the traced result
    apply: ClassVar[Callable[..., Any]]

    def __init_subclass__(cls) -> None:
        KNOWN.add(cls)

    def refresh(self) -> None:
        """See what has been written elsewhere since, where memory is not shared."""

    if TYPE_CHECKING:  # the operators and methods that the modules of rules give it

        def __getitem__(self, index: Any) -> Any: ...
        def __setitem__(self, index: Any, x: Any) -> None: ...
        def __getattr__(self, name: str) -> Any: ...

    # -- what an ndarray tells of itself

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        return np.ndim(self.value)

    @property
    def size(self) -> int:
        return int(np.size(self.value))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype if hasattr(self.value, "dtype") else np.asarray(self.value).dtype

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        return np.real(self)

    @property
    def imag(self) -> Any:
        return np.imag(self)

    @property
    def flat(self) -> Any:
        return iter(np.ravel(self))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d array")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    # -- NumPy's dispatch

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if not (type(inputs[0]) in KNOWN and type(inputs[-1]) in KNOWN) and method == "__call__":
            inputs = tuple(map(as_operand, inputs))
        if out is None and not kwargs and method == "__call__" and ufunc in NUMPY:  # what nearly all calls are
            return NUMPY[ufunc](*inputs)
        key = ufunc if method == "__call__" else (ufunc, method)
        implementation = NUMPY.get(key) or by_name(ufunc, method)
        if implementation is None:
            raise MissingRuleError(missing(ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"))
        if method == "__call__" and kwargs:
            result = with_arguments(ufunc, implementation, inputs, out, **kwargs)
        else:
            result = implementation(*inputs, **kwargs)
        if out is None:
            return result
        written = tuple(map(write_out, out, result if isinstance(result, tuple) else (result,)))
        return written if len(written) > 1 else written[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        for kind in types:
            if kind not in KNOWN:
                check_kind(kind)
        implementation = NUMPY.get(function)
        if implementation is None:
            module = getattr(function, "__module__", "numpy")
            raise MissingRuleError(missing(f"{module}.{getattr(function, '__name__', function)}"))
        if not args:
            args, kwargs = in_order(function, kwargs)
        return implementation(*args, **kwargs)

    @property
    def _numba_type_(self) -> Any:
        """Numba asks for this when it meets a traced array before the extension is loaded."""
        return _typing()(self)

    def __format__(self, spec: str) -> str:
        """A number in a format is its value, as in f"{loss:.3f}"; without a format, all of it."""
        return format(primal(self)[()], spec) if spec else str(self)

    # -- comparisons decide on the primal, and so does truth

    def __bool__(self) -> bool:
        return bool(primal(self))

    # of equal numbers a set or a dict keeps one, and the derivatives of that one would stand for all
    __hash__ = None  # type: ignore[assignment]

    # -- ways out of the world of differentiation

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickling is for arrays made by hand: tags are ids within one process."""
        if self.tag:
            raise TagError(
                f"an array of derivative {self.tag} cannot be pickled, because another process would take it for one "
                "of a derivative of its own; send plain numbers (x.value), which are not differentiated, or take the "
                "derivative in the other process, or use threads"
            )
        return super().__reduce_ex__(protocol)

    def __float__(self) -> float:
        raise MissingRuleError(
            leaving(
                "making a plain float of x (float(x), math.sin(x), or out[i] = x where out is an array of np.zeros)",
                "use NumPy's function, make out with np.zeros_like(x), or take a plain number from x.value",
            )
        )

    def __int__(self) -> int:
        raise MissingRuleError(leaving("int(x)", "take a plain number from x.value, which is not differentiated"))

    __index__ = __int__

    def __complex__(self) -> complex:
        raise MissingRuleError(leaving("complex(x)", "use np.real, np.imag or a multiplication by 1j"))

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise MissingRuleError(
            leaving(
                "making a plain array of x (np.array, np.asarray, out[i] = x into an array of np.zeros, y.dot(x), an "
                "operation of a masked or sparse array y)",
                "use np.stack([...]) to build arrays, np.zeros_like(x) (np.zeros_like(x, shape=...)) for arrays to "
                "write into, y @ x for y.dot(x), y.filled(0.0) or y.toarray() for a masked or sparse y, or take plain "
                "numbers from x.value",
            )
        )

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise MissingRuleError(
            leaving("giving x to another library (torch.as_tensor(x))", "use NumPy's functions and those of dualsvd")
        )

    __dlpack_device__ = __dlpack__

    def item(self, *index: Any) -> Any:
        raise MissingRuleError(leaving("x.item()", "use x[...] with indices, which stays differentiable"))

    def tolist(self) -> Any:
        raise MissingRuleError(leaving("x.tolist()", "use list(x), whose elements stay differentiable"))


def missing(name: str) -> str:
    """The message for a function without a rule."""
    return (
        f"{name} has no derivative rule, called at {caller()}; write it with functions that have one, "
        "or give it one with dualsvd.custom_rule"
    )


def leaving(what: str, remedy: str) -> str:
    """The message for a step out of the world of differentiation."""
    return f"{what} at {caller()} would lose the derivative; {remedy}"


def by_name(ufunc: Any, method: str) -> Callable[..., Any] | None:
    """What serves a ufunc of SciPy (scipy.special.erf) that goes by a name of the table."""
    return NUMPY.get(ufunc.__name__) if method == "__call__" and is_of_scipy(ufunc) else None


def as_operand(x: Any) -> Any:
    """What stands beside a traced array: a Python list is an array, as NumPy has it; a Fraction is no number of
    NumPy's, and other libraries' arrays have operations of their own."""
    kind = type(x)
    if kind in KNOWN or isinstance(x, _NUMBERS):
        return x
    if isinstance(x, (list, tuple)):
        return np.asarray(x) if _is_of_numbers(x) else np.stack([as_operand(i) for i in x])
    if isinstance(x, numbers.Number):
        refuse_objects()
    check_kind(kind)
    return x


#: with those derived from them, as the members of an IntEnum are
_NUMBERS = (np.generic, int, float, complex)


def _is_of_numbers(x: Any) -> bool:
    """Whether a list, and all lists in it, hold numbers alone: NumPy makes an array of those many times faster."""
    return all(_is_of_numbers(i) if type(i) in (list, tuple) else isinstance(i, _NUMBERS) for i in x)


def check_kind(kind: type) -> None:
    """Raise if a traced array met an array of a foreign type."""
    if is_foreign(kind):
        refuse_foreign(kind, f"at {caller()} a traced array met")


def is_foreign(kind: type) -> bool:
    """Whether arrays of a type do other things than NumPy's under the same operators: heed a mask or labels, multiply
    matrices by `*`. Rules, which know values alone, would differentiate another function."""
    if issubclass(kind, Dual):
        return False
    if issubclass(kind, np.ndarray):
        own = kind.__array_ufunc__ is not np.ndarray.__array_ufunc__
        return own or issubclass(kind, (np.ma.MaskedArray, np.matrix))
    return hasattr(kind, "__array_ufunc__") or hasattr(kind, "__truediv__")


def refuse_foreign(kind: type, whose: str) -> NoReturn:
    """Raise for such a type, and say how to get an array of NumPy's instead."""
    if issubclass(kind, np.ma.MaskedArray):
        raise DTypeError(
            f"{whose} a masked array, whose mask has no derivative rule; take its values as m.filled(0.0), and "
            "np.where(m.mask, 0.0, ...) of what is computed with them"
        )
    ways = {"toarray": "m.toarray()", "to_numpy": "m.to_numpy()", "numpy": "m.numpy()", "__array__": "np.asarray(m)"}
    way = next((f"take {way}, or " for method, way in ways.items() if hasattr(kind, method)), "")
    raise DTypeError(
        f"{whose} a {kind.__module__.partition('.')[0]}.{kind.__qualname__}, whose operations are not those of NumPy's "
        f"arrays and have no derivative rule; {way}make what is done with it a dualsvd.custom_rule"
    )


def with_arguments(
    ufunc: Any,
    implementation: Callable[..., Any],
    inputs: Any,
    out: Any,
    *,
    where: Any = True,
    dtype: Any = None,
    casting: Any = "same_kind",
    **kwargs: Any,
) -> Any:
    """A ufunc called with `where=` or `dtype=`; the memory layout it may be asked for does not matter here."""
    if dtype is not None:  # what is computed in, not only what the result is given in
        inputs = _in_which_it_computes(ufunc, inputs, np.dtype(dtype), casting)
    if where is not True:
        if out is None:
            raise ShapeError("where= leaves the other elements undefined; give out= as well, or use np.where")
        where = np.asarray(primal(where), dtype=bool)
        inputs = _defined_outside(ufunc, inputs, where)
    result = implementation(*inputs, **{k: v for k, v in kwargs.items() if k not in ("order", "subok")})
    if dtype is not None:
        several = isinstance(result, tuple)
        result = tuple(of_dtype(y, np.dtype(dtype)) for y in result) if several else of_dtype(result, np.dtype(dtype))
    return result if where is True else np.where(where, result, out[0])


def _in_which_it_computes(ufunc: Any, inputs: Any, dtype: np.dtype[Any], casting: Any) -> Operands:
    """The operands of a ufunc in the dtypes, by NumPy's tables, that it takes to give results in `dtype`."""
    given = (type(x) if type(x) in (int, float, complex) else np.result_type(x) for x in inputs)
    signature = (None,) * ufunc.nin + (dtype,) * ufunc.nout
    dtypes = ufunc.resolve_dtypes((*given, *(None,) * ufunc.nout), signature=signature, casting=casting)
    return tuple(map(of_dtype, inputs, dtypes))


def _defined_outside(ufunc: Any, inputs: Any, where: Any) -> Operands:
    """The operands with constants at which the ufunc has a slope, wherever it is not asked for: what is infinite there
    would make NaN of no cotangent."""
    row = BY_NAME.get(ufunc.__name__)
    inside = [1.0] * len(inputs) if row is None else [(a + b) / 2 for a, b in row.intervals]
    return tuple(
        np.where(where, x, x.dtype.type(c)) if hasattr(x, "dtype") else x  # a number of Python's is as it is
        for x, c in zip(inputs, inside)
    )


def write_out(out: Any, result: Any) -> Any:
    """`out=` of a ufunc, which is also what `x += y` means."""
    if not isinstance(out, Tracer):
        raise MissingRuleError(
            leaving("writing into a plain array (out=, +=)", "make the array with np.zeros_like(x) or write x = x + y")
        )
    if np.shape(result) != out.shape:
        raise ShapeError(f"out has shape {out.shape}, but the result has shape {np.shape(result)}")
    out[...] = result
    return out
