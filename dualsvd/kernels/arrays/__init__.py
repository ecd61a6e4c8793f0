"""`DualArray` in compiled code: a user's own `@njit` function takes it, reads and writes `Dual` elements, and may
return one.

The compiled array is a pair (value, partials) of Numba's arrays, or of compiled DualArrays where derivatives are
nested. An element is gathered from both when it is read and scattered when it is written; the arithmetic of
elements is that of `scalars`. Linear operations (views, sums, copies) act on both members. Everything else is a
loop over elements, generated as Python source.

The type carries the *depth* of the derivative's level, not its run-time id: code that is compiled once, or read
from the cache on disk, serves every later derivative, and two levels that meet in one function nest as they do in
Python.

    model         the type, its way from Python and back, how numbers and arrays of a level are made
    source        Python source of functions and loops
    items         reading and writing
    views         shapes, views, arrays like another one
    elementwise   arithmetic and NumPy's functions, with broadcasting
    reductions    sums, extrema, products

Importing it registers all of them.
"""

from .. import boxing  # noqa: F401, elements go to Python
from . import elementwise, items, reductions, views
from .model import DualArrayType, allocator, array_type, element_type, type_of
from .source import from_source

__all__ = [
    "DualArrayType",
    "allocator",
    "array_type",
    "element_type",
    "elementwise",
    "from_source",
    "items",
    "reductions",
    "type_of",
    "views",
]
