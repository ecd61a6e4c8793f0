"""What differentiates: the rules, and NumPy's functions in terms of them."""

from . import elementwise as elementwise
from . import fourier as fourier
from . import ndarray as ndarray
from . import products as products
from . import reductions as reductions
from . import selection as selection
from . import statistics as statistics
from . import structural as structural
