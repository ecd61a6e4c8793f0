"""What a kernel tells of a matrix: flags, of which several may hold; 0 if all went well."""

from __future__ import annotations

#: It holds NaN or infinity.
NONFINITE = 1

#: It still changed at the bound on sweeps.
UNCONVERGED = 2

#: It spans more than the kernel can hold: another one takes it.
FAR = 4

#: It has a tie or a zero. Kernels on a device always tell; on the CPU those do whose derivatives need to know.
TIED = 8

#: On the CPU sweeps and verdict are told in one number, sweeps + VERDICT verdict, for limits are below it: two numbers
#: would be a fifth of what a batch of 2 x 2 writes.
VERDICT = 1024
