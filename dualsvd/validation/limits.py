"""How many directions are tried, and how close two ways to one derivative must come: every number, with its reason."""

from __future__ import annotations

#: up to so many real dimensions every basis direction is tried, beyond it random ones only
EXHAUSTIVE = 32
#: random directions and cotangents, always: a derivative that is wrong by more than the tolerance but right along three
#: random directions has probability zero
RANDOM = 3
#: of the directions that nobody chose otherwise: a point that a user draws from default_rng(0) is to be none of them,
#: for along itself a homogeneous function tells little
SEED = 0x5EED_D1EC
#: up to so many real dimensions every column of the Hessian is formed, by every way
EXHAUSTIVE_SECOND = 12

# -- two computations that round, in units of the eps of their numbers

#: two right computations of one derivative, in norm: 5.7e-14 in double precision, 3.1e-5 in single
AGREEMENT = 256.0
#: The sweeps round once in every rotation: on random matrices, 1e-14 at size 16 and 1.4e-12 at size 64 were measured.
#: On top comes their own conditioning, measured as below, by moving the argument in its last digit under the sweeps:
#: the pairs of columns that they turn are tied by chance sooner than singular values are (of 100 columns 5000 pairs in
#: every sweep), and the tangent of that angle grows as 1/gap. From size 64 on it is most of the error: at size 100,
#: 2e-11 to 5e-10 against 3e-14 of the closed form, and half to twice what moving the last digit gives.
AGREEMENT_SWEEPS = 65536.0
#: a second derivative rounds twice, through quotients by gaps squared
AGREEMENT_SECOND = 4096.0
#: A derivative is known no better than it moves when its argument moves in the last digit; this many times that is
#: allowed on top. It is measured: near a tie of gap g it grows as eps / g.
CONDITIONING = 16.0
#: a derivative that moves by more than this, relatively, has no digits to compare (at an exact tie, say); the
#: movement is then no excuse, and the bare tolerance holds
ILL_POSED = 1e-3

# -- differences

#: 2^-5 to 2^-19: after extrapolation the three largest leave little but rounding (some 1e-13 of f); the smallest see
#: kinks close by
STEP_RATIO = 4.0
STEPS = tuple(2.0**-5 / STEP_RATIO**k for k in range(8))
#: What the smallest of them jumps over, two more see: at 1e-10 and 1e-13 a slope is known to 1e-4 and to 1e-1.
PROBES = (2.0**-33, 2.0**-43)
#: how far f moves when x moves by this is the noise in its values: two units in the last place of a number
LAST_DIGITS = 2.0**-51
#: the steps to go down where a probe contradicts the slope found so far, or none is; below 2^-45 noise is all there is
FINE = tuple(2.0**-21 / STEP_RATIO**k for k in range(13))
#: neighbouring rungs of the ladder give the size of an error, not a bound on it
MARGIN = 10.0
#: a slope known to fewer digits than this decides nothing, and is not compared
USELESS = 1e-3
#: except on the finer ladder, where there are no more to be had, and one digit tells a factor of 2 or a sign
ROUGH = 0.1
#: on a smooth function the jump between the one-sided slopes shrinks 16 times over two rungs; at a kink it stays
JUMP_STAYS = 0.5
#: and a jump counts only if it stands out of the noise of the values
JUMP_OVER_NOISE = 50.0
